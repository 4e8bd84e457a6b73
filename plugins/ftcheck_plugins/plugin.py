"""Lists the built-in loaders and reporters."""

from ftcheck import Loader, Reporter, hookimpl


@hookimpl
def ftcheck_loaders() -> list[Loader]:
    """Offer what opens the inputs of rules."""
    from ftcheck_plugins import gold, machine, model, preparation, schema, tokenizer

    return [
        gold.gold,
        machine.machine,
        machine.packages,
        model.model,
        preparation.prepared,
        preparation.prepared_eval,
        preparation.rows,
        preparation.sample,
        schema.output_schema,
        tokenizer.serving,
        tokenizer.tokenizer,
    ]


@hookimpl
def ftcheck_reporters() -> list[Reporter]:
    """Offer the report formats."""
    from ftcheck_plugins.reporters import github, json_report, junit, markdown

    return [github.REPORTER, json_report.REPORTER, junit.REPORTER, markdown.REPORTER]
