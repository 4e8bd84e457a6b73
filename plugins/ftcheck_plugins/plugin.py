"""Lists the built-in loaders and reporters."""

from ftcheck import Loader, Reporter, hookimpl


@hookimpl
def ftcheck_loaders() -> list[Loader]:
    """Offer what opens the inputs of rules."""
    from ftcheck_plugins import (
        answers,
        baseline,
        benchmarks,
        collating,
        endpoint,
        gold,
        loads,
        lock,
        machine,
        model,
        preparation,
        processes,
        repository,
        saving,
        schema,
        spoken,
        surroundings,
        tokenizer,
        trained,
        weights,
    )

    return [
        answers.answers,
        answers.base_answers,
        baseline.baseline,
        benchmarks.benchmarks,
        collating.collated,
        endpoint.endpoint,
        gold.gold,
        loads.load_report,
        lock.lock,
        machine.machine,
        machine.packages,
        model.model,
        preparation.prepared,
        preparation.prepared_eval,
        preparation.rows,
        preparation.sample,
        processes.processes,
        repository.repository,
        saving.saved,
        schema.output_schema,
        spoken.spoken,
        surroundings.surroundings,
        tokenizer.evaluation,
        tokenizer.serving,
        tokenizer.tokenizer,
        trained.adapter,
        trained.trained,
        weights.modules,
        weights.weights,
    ]


@hookimpl
def ftcheck_reporters() -> list[Reporter]:
    """Offer the report formats."""
    from ftcheck_plugins.reporters import github, json_report, junit, markdown

    return [github.REPORTER, json_report.REPORTER, junit.REPORTER, markdown.REPORTER]
