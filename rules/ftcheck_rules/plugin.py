"""Lists the built-in rules."""

from ftcheck import Rule, hookimpl


@hookimpl
def ftcheck_rules() -> list[Rule]:
    """Offer every built-in rule."""
    from ftcheck_rules import (
        data,
        disk,
        evaluation,
        guardrails,
        labels,
        lengths,
        machine,
        packing,
        serving,
        templates,
        tokens,
    )

    return [
        data.data_readable,
        data.data_schema,
        disk.disk_space,
        disk.output_dir,
        evaluation.evaluation_parity,
        guardrails.guardrail,
        labels.trained_tokens,
        labels.truncation,
        lengths.context_window,
        lengths.percentile_seq_len,
        machine.environment,
        machine.gpu,
        packing.packing_efficiency,
        packing.tokens_per_step,
        serving.output_cap,
        serving.output_schema,
        templates.chat_template,
        tokens.tokenizer_parity,
    ]
