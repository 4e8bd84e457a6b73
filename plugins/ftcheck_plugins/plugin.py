"""Lists the built-in loaders, reporters and exporters."""

from ftcheck import Exporter, Loader, Reporter, hookimpl


@hookimpl
def ftcheck_loaders() -> list[Loader]:
    """Offer what opens the inputs of rules."""
    from ftcheck_plugins.finished import (
        baseline,
        dry_save,
        endpoint,
        generation_processes,
        load_test,
        model_answers,
        run_folder,
    )
    from ftcheck_plugins.host import environment, machine
    from ftcheck_plugins.model import (
        config,
        hub,
        lock,
        packed_batch,
        safetensors_headers,
        tokenizer,
    )
    from ftcheck_plugins.preparation import (
        collator,
        null_tokens,
        preparation,
        role_tokens,
        row_texts,
        scheduler,
    )
    from ftcheck_plugins.reading import benchmarks, gold, output_schema

    return [
        model_answers.generations,
        model_answers.base_generations,
        baseline.baseline,
        benchmarks.benchmarks,
        collator.collated,
        endpoint.endpoint,
        gold.gold,
        load_test.load_report,
        lock.lock,
        machine.machine,
        machine.packages,
        config.model,
        preparation.as_loaded,
        packed_batch.packed_batch,
        preparation.prepared,
        preparation.prepared_eval,
        preparation.prepared_here,
        preparation.rows,
        preparation.sample,
        generation_processes.processes,
        hub.repository,
        dry_save.saved,
        output_schema.output_schema,
        role_tokens.role_tokens,
        scheduler.scheduler,
        null_tokens.arrow_nulls,
        row_texts.row_texts,
        environment.environment,
        tokenizer.evaluation,
        tokenizer.serving,
        tokenizer.tokenizer,
        run_folder.adapter,
        run_folder.run_artifacts,
        safetensors_headers.modules,
        safetensors_headers.weights,
    ]


@hookimpl
def ftcheck_reporters() -> list[Reporter]:
    """Offer the report formats."""
    from ftcheck_plugins.reporters import github, gitlab, html_report, json_report, junit, markdown, sarif

    modules = (github, gitlab, html_report, json_report, junit, markdown, sarif)
    return [module.REPORTER for module in modules]


@hookimpl
def ftcheck_exporters() -> list[Exporter]:
    """Offer configurations for other programs."""
    from ftcheck_plugins.guard import export

    return [export.EXPORTER]
