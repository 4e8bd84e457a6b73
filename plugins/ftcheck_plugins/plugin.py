"""Lists the built-in loaders and reporters."""

from ftcheck import Loader, Reporter, hookimpl


@hookimpl
def ftcheck_loaders() -> list[Loader]:
    """Offer what opens the inputs of rules."""
    from ftcheck_plugins import (
        benchmarks,
        collating,
        endpoint,
        gold,
        lock,
        machine,
        model,
        preparation,
        repository,
        saving,
        schema,
        surroundings,
        tokenizer,
        weights,
    )

    return [
        benchmarks.benchmarks,
        collating.collated,
        endpoint.endpoint,
        gold.gold,
        lock.lock,
        machine.machine,
        machine.packages,
        model.model,
        preparation.prepared,
        preparation.prepared_eval,
        preparation.rows,
        preparation.sample,
        repository.repository,
        saving.saved,
        schema.output_schema,
        surroundings.surroundings,
        tokenizer.evaluation,
        tokenizer.serving,
        tokenizer.tokenizer,
        weights.modules,
        weights.weights,
    ]


@hookimpl
def ftcheck_reporters() -> list[Reporter]:
    """Offer the report formats."""
    from ftcheck_plugins.reporters import github, json_report, junit, markdown

    return [github.REPORTER, json_report.REPORTER, junit.REPORTER, markdown.REPORTER]
