"""Lists the built-in rules."""

from ftcheck import Rule, hookimpl


@hookimpl
def ftcheck_rules() -> list[Rule]:
    """Offer every built-in rule."""
    from ftcheck_rules.budget import budget, logits_memory, memory_fit
    from ftcheck_rules.config import (
        adapters,
        arguments,
        base_model,
        distributed,
        imported_config,
        precision,
        schedule,
    )
    from ftcheck_rules.data import (
        answers,
        arrow_nulls,
        data,
        duplicates,
        gold,
        hosted,
        leakage,
        special_tokens_in_text,
        tool_calls,
    )
    from ftcheck_rules.during import during
    from ftcheck_rules.evaluation import evaluation
    from ftcheck_rules.host import (
        disk,
        dry_save,
        hub,
        machine,
        resume,
    )
    from ftcheck_rules.labels import labels, loss_masks, stop_after_call
    from ftcheck_rules.lengths import lengths, packing
    from ftcheck_rules.outcome import accuracy, outcome, valid_output
    from ftcheck_rules.prepared import prepared_data
    from ftcheck_rules.serving import (
        guardrails,
        load_test,
        server_limits,
        serving,
        tool_parser,
    )
    from ftcheck_rules.template import parity, reasoning, templates
    from ftcheck_rules.tokens import special_tokens, tokens, vocabulary

    return [
        accuracy.accuracy,
        accuracy.regression,
        adapters.lora_targets,
        adapters.merge,
        answers.answers,
        arguments.known_bugs,
        arrow_nulls.arrow_nulls,
        arguments.training_arguments,
        base_model.base_model,
        budget.cost,
        budget.run_time,
        data.data_readable,
        data.data_schema,
        disk.disk_space,
        disk.output_dir,
        distributed.data_loading,
        distributed.distributed,
        during.eval_loss,
        during.fed_batches,
        during.finite_loss,
        during.loss_progress,
        during.loss_spike,
        during.training_memory,
        during.training_speed,
        evaluation.evaluation_parity,
        gold.gold_set,
        guardrails.guardrail,
        hosted.hosted_file,
        hub.hub_access,
        imported_config.imported_config,
        hub.trackers,
        labels.trained_tokens,
        labels.truncation,
        lengths.context_window,
        lengths.percentile_seq_len,
        load_test.serving_target,
        machine.environment,
        machine.gpu,
        special_tokens_in_text.special_tokens_in_text,
        loss_masks.collator,
        loss_masks.prompt_boundary,
        loss_masks.response_markers,
        logits_memory.logits_memory,
        memory_fit.memory_fit,
        outcome.adapter_loads,
        outcome.loss_convergence,
        outcome.memory_peak,
        valid_output.valid_output,
        duplicates.duplicates,
        leakage.leakage,
        packing.packing_efficiency,
        packing.packing_isolation,
        packing.tokens_per_step,
        parity.template_parity,
        precision.precision,
        prepared_data.prepared_data,
        reasoning.reasoning,
        resume.resume,
        dry_save.dry_save,
        schedule.learning_rate,
        schedule.schedule,
        server_limits.server_limits,
        serving.output_cap,
        serving.output_schema,
        special_tokens.special_tokens,
        stop_after_call.stop_after_call,
        templates.chat_template,
        tokens.tokenizer_parity,
        tool_calls.tool_calls,
        tool_parser.tool_parser,
        vocabulary.added_tokens,
        vocabulary.vocabulary,
    ]
