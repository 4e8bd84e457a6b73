"""What is said of each kind of difference between two preparations."""

from dataclasses import dataclass

from ftcheck import Severity
from ftcheck_rules.prepared.row_differences import Kind

AGAIN = "remove the folder and prepare the rows again"


@dataclass(frozen=True, slots=True)
class Said:
    """How a kind of difference is told: of one row, of several, and what to do about it."""

    one: str
    many: str
    fix: str | None = None
    why: str | None = None
    severity: Severity = Severity.WARNING


OWN = "ftcheck's preparation"
NOT_STOPPING = "The model does not learn to stop: it goes on to invent the next question."
OTHER_PROMPT = "Served requests are prompted differently from the rows that the model was trained on."
SAID = {
    Kind.BOS_MISSING: Said(
        f"lacks the BOS token that {OWN} begins it with",
        f"lack the BOS token that {OWN} begins them with",
        f"{AGAIN} with the template's BOS",
        OTHER_PROMPT,
    ),
    Kind.BOS_ADDED: Said(
        f"begins with one BOS token more than in {OWN}",
        f"begin with one BOS token more than in {OWN}",
        "tokenise rendered text with add_special_tokens=False",
        OTHER_PROMPT,
    ),
    Kind.STOP_MISSING: Said(
        f"lacks the stop token that ends it in {OWN}",
        f"lack the stop token that ends them in {OWN}",
        f"{AGAIN} with EOS at the end of each answer",
        NOT_STOPPING,
    ),
    Kind.STOP_ADDED: Said(
        f"ends with one stop token more than in {OWN}",
        f"end with one stop token more than in {OWN}",
        "do not add EOS to text that the template has ended already",
        "The model learns to write it after a turn that has ended: harmless, if generation stops at the"
        " first.",
    ),
    Kind.BLANK_END: Said(
        f"ends with other white space than in {OWN}",
        f"end with other white space than in {OWN}",
        severity=Severity.INFO,
    ),
    Kind.CUT: Said(
        "is cut: the rest of it is in data.train alone",
        "are cut: the rest of them is in data.train alone",
        "raise the length that the rows are prepared with",
        "A cut answer teaches to stop in the middle of a sentence.",
    ),
    Kind.LEFT_OUT: Said(
        f"lacks tokens in the middle that {OWN} has",
        f"lack tokens in the middle that {OWN} has",
        "raise the length that the rows are prepared with (LLaMA-Factory cuts each turn, cutoff_len)",
        "The model is trained on questions that nobody asked so.",
    ),
    Kind.SAME_TEXT: Said(
        f"has the text of {OWN} in other tokens",
        f"have the text of {OWN} in other tokens",
        "nothing, if the server is given the same pieces; else encode each row as one text",
        "Parts of a row that are encoded one by one are not merged across their borders, as a served"
        " request is.",
    ),
    Kind.TEMPLATE: Said(
        "was rendered with another template",
        "were rendered with another template",
        "set model.chat_template to the template that the rows were rendered with, in serving too, or"
        f" {AGAIN}",
        OTHER_PROMPT,
    ),
    Kind.TEXT: Said(
        f"has another text than in {OWN}",
        f"have another text than in {OWN}",
        f"{AGAIN}, or correct data.train",
        "Checks on data.train say nothing of these rows.",
    ),
    Kind.ALL_TRAINED: Said(
        f"trains every token, where {OWN} trains answers alone",
        f"train every token, where {OWN} trains answers alone",
        f"{AGAIN} with the prompts masked (axolotl: train_on_inputs: false; LLaMA-Factory: train_on_prompt:"
        " false)",
        "The model also learns to write the questions.",
    ),
    Kind.NONE_TRAINED: Said(
        "has no token in the loss",
        "have no token in the loss",
        f"{AGAIN}, or remove the rows",
        "The row costs compute and teaches nothing.",
    ),
    Kind.HEADER_TRAINED: Said(
        "trains tokens of the header before an answer",
        "train tokens of the header before an answer",
        "mask what the prompt ends with: the server writes it",
        "The model learns to write the role of the next turn.",
    ),
    Kind.STARTS_EARLY: Said(
        f"begins an answer's loss earlier than {OWN}",
        f"begin an answer's loss earlier than {OWN}",
        "mask what the prompt ends with: the server writes it",
        "The model is also trained to write the end of the prompt.",
    ),
    Kind.NEWLINE_TRAINED: Said(
        f"trains the white space after an answer, which {OWN} does not",
        f"train the white space after an answer, which {OWN} does not",
        severity=Severity.INFO,
    ),
    Kind.NEWLINE_MASKED: Said(
        f"leaves white space out of the loss that {OWN} trains",
        f"leave white space out of the loss that {OWN} trains",
        severity=Severity.INFO,
    ),
    Kind.STOP_TRAINED: Said(
        f"trains a stop token that {OWN} leaves out of the loss",
        f"train a stop token that {OWN} leaves out of the loss",
        severity=Severity.INFO,
    ),
    Kind.STOP_MASKED: Said(
        f"leaves a stop token out of the loss that {OWN} trains",
        f"leave a stop token out of the loss that {OWN} trains",
        f"{AGAIN} with the stop token in the labels (axolotl: train_on_eos: turn, eot_tokens)",
        NOT_STOPPING,
    ),
    Kind.ANSWER_MASKED: Said(
        f"leaves an answer out of the loss that {OWN} trains",
        f"leave an answer out of the loss that {OWN} trains",
        "check which turns are trained (axolotl: roles_to_train; LLaMA-Factory: mask_history)",
        "These answers cost compute and teach nothing.",
    ),
    Kind.PROMPT_TRAINED: Said(
        f"trains tokens of the prompt, which {OWN} masks",
        f"train tokens of the prompt, which {OWN} masks",
        "check which turns are trained (axolotl: roles_to_train, train_on_inputs; LLaMA-Factory:"
        " train_on_prompt); `ftcheck show` marks them",
        "The model also learns to write the questions.",
    ),
    Kind.PART_MASKED: Said(
        f"leaves part of an answer out of the loss that {OWN} trains",
        f"leave part of an answer out of the loss that {OWN} trains",
        "look at the labels with `ftcheck show`",
        "The model does not learn this part of the answer.",
    ),
}
