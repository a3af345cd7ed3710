"""What may go wrong, what is promised then, and which tests hold it: the rows of docs/reliability.md."""

from dataclasses import dataclass

INJECTED, LOST, WRONG, LEAKS, STUCK = (
    "Injected everywhere",
    "Lost data",
    "Silently wrong",
    "Leaks and intrusion",
    "Stuck",
)
STORE, RUN, OWNER = "unit/storage/test_store.py", "unit/storage/test_run.py", "unit/lineage/test_ownership.py"
REMOVAL, WORKSPACE = "unit/lineage/test_removal.py", "unit/lineage/test_workspace.py"
RECORD, SNAPSHOT, LEASE = "unit/lineage/test_catalogue.py", "unit/lineage/test_snapshot.py", "unit/tasks/test_lease.py"
PROMOTION, FAULTS, ROT = "unit/storage/test_promotion.py", "integration/test_faults.py", "lineage/test_faults.py"
REPLICAS = "integration/test_replicas.py"
RECORDED, CODE, PROBE = "lineage/test_recorded.py", "unit/lineage/test_code.py", "unit/flows/test_probe.py"


@dataclass(frozen=True)
class Fault:
    """A row. Tests are `file::function` below tests/; without one the page says so."""

    kind: str
    fault: str
    promise: str
    tests: tuple[str, ...] = ()


ROWS = [
    Fault(
        INJECTED,
        "SIGKILL, an I/O error, a full disk or a hang at any point of any stage",
        "the same command ends with the bytes of a quiet run, and leaves no process, lock or half-made directory",
        ("faults/test_stages.py::test_a_run_endures",),
    ),
    Fault(
        INJECTED,
        "the same while a run is made, recorded, committed by git and pushed",
        "the same, and `dvc status` and `verify --remote` find nothing",
        (f"{ROT}::test_recording_endures",),
    ),
    Fault(
        INJECTED,
        "the same while prompts and students are published and promoted",
        "the same call again, and readers see what they would have seen",
        ("faults/test_publishing.py::test_publishing_endures",),
    ),
    Fault(
        INJECTED,
        "SIGKILL of the command, its server or an engine at a random moment",
        "the same command ends with the same bytes; no process is left",
        (f"{FAULTS}::test_sigkill_of_a_process",),
    ),
    Fault(
        INJECTED,
        "death, a hang or a stop of an engine that shares the chunks of a round",
        "it costs its chunk; the bytes are those of one engine, and what is complete is not made again",
        (
            f"{REPLICAS}::test_a_replica_that_is_killed_costs_its_chunk",
            f"{REPLICAS}::test_the_cold_stages_go_on_with_the_chunks_that_are_complete",
            f"{REPLICAS}::test_a_stop_ends_all_replicas",
        ),
    ),
    Fault(
        INJECTED,
        "a stop or SIGKILL while training and sampling are at work at once (a round ahead)",
        "the same command ends with the bytes of the stages done in turn; no process is left",
        (
            "integration/test_ahead.py::test_overlapped_rounds_have_the_bytes_of_serial_ones",
            "integration/test_ahead.py::test_stopped_where_two_stages_are_at_work",
        ),
    ),
    Fault(
        INJECTED,
        "an engine that keeps old weights",
        "StaleWeightsError; nothing is sampled or scored with them",
        (f"{FAULTS}::test_stale_weights_stop_the_run",),
    ),
    Fault(
        INJECTED,
        "bytes that rot in the workspace, the cache or the store",
        "the file is named; `--repair` takes a good copy; a pull of bad bytes is refused",
        (
            f"{ROT}::test_rot_in_the_store",
            f"{ROT}::test_rot_in_the_cache",
            f"{ROT}::test_rot_in_a_workspace",
            f"{ROT}::test_a_pull_of_rotten_objects_is_refused",
        ),
    ),
    Fault(
        INJECTED,
        "a store that stumbles, is slow, dies, or does not know the credentials",
        "retries; one line without the secret; the same command later only pushes",
        (
            f"{ROT}::test_a_slow_store_that_stumbles_and_a_recorder_killed_in_mid_push",
            f"{ROT}::test_a_store_that_dies_loses_nothing",
            f"{ROT}::test_a_dead_endpoint_is_one_clear_line",
            f"{ROT}::test_wrong_credentials_are_one_clear_line_without_the_secret",
        ),
    ),
    Fault(
        LOST,
        "1 Two checkouts record under one name",
        "the second is refused; only its owner's files are deleted",
        (f"{OWNER}::test_a_second_checkout_cannot_take_the_name_nor_record_under_it",),
    ),
    Fault(
        LOST,
        "2 Two commands on one run",
        "one goes on, the other is refused at once and harms nothing",
        (
            f"{FAULTS}::test_of_two_commands_at_once_one_goes_on_and_one_is_refused",
            f"{RUN}::test_a_run_is_driven_by_one_process",
        ),
    ),
    Fault(
        LOST,
        "3, 21 `gc` with the wrong store, or while a run has recorded nothing yet",
        "no records, no removal; what runs said that they rely on stays",
        (
            f"{OWNER}::test_an_empty_store_judges_nothing",
            f"{OWNER}::test_intents_are_replaced_and_grow_old",
            f"{RECORDED}::test_collection_keeps_what_kept_runs_need",
        ),
    ),
    Fault(
        LOST,
        "A run comes to rely on what a collection is about to remove, here or on another machine",
        "the collection leaves it, or the run waits and uploads it again",
        (
            f"{REMOVAL}::test_what_a_run_came_to_need_after_the_plan_stays",
            f"{REMOVAL}::test_a_run_waits_for_what_goes_and_for_nothing_else",
            f"{REMOVAL}::test_the_cache_of_this_machine_is_not_emptied_while_a_run_records",
            f"{REMOVAL}::test_a_workspace_elsewhere_keeps_what_it_relies_on",
        ),
    ),
    Fault(
        LOST,
        "4 `make clean`, `git worktree prune` elsewhere, a passing stat error",
        "promoted models and workspaces stay; an object stays until its replacement is complete",
        (
            "newcomer/test_clean.py::test_what_was_published_stays",
            "unit/lineage/test_names.py::test_a_machine_that_cannot_see_a_workspace_does_not_drop_it",
            "unit/lineage/test_objects.py::test_an_object_stays_until_its_replacement_is_complete",
        ),
    ),
    Fault(
        LOST,
        "5 The answer to a conditional write is lost",
        "own digest and run found is a success; nothing is promoted twice",
        (
            f"{PROMOTION}::test_a_promotion_whose_answer_was_lost_is_not_made_twice",
            f"{OWNER}::test_a_name_whose_answer_was_lost_is_a_success",
        ),
    ),
    Fault(
        WRONG,
        "6 Code or libraries change, and a stage's revision does not",
        "the stage cache is keyed by the code that a stage runs",
        (
            f"{CODE}::test_an_edit_counts_where_it_is_imported_and_a_comment_nowhere",
            f"{CODE}::test_the_closure_reaches_imports_inside_functions_and_packages",
        ),
    ),
    Fault(
        WRONG,
        "7 `select` of a deployment runs other code than the recorded; a rule of scores throws rollouts away",
        "selection runs the run's own code; stages name the single fields that decide them",
        (
            "unit/engines/test_recorded_code.py::test_selection_uses_the_recorded_code",
            "unit/engines/test_recorded_code.py::test_the_cache_knows_the_recorded_code",
            "unit/test_stages.py::test_a_change_throws_away_only_what_it_decides",
        ),
    ),
    Fault(
        WRONG,
        "8 Rounds that were not recorded look green",
        "warned, shown beside the progress, and failed at the end",
        (
            "unit/lineage/test_queue.py::test_a_store_that_never_comes_is_told_and_fails",
            "unit/tasks/test_artifacts.py::test_the_bar_says_what_is_recorded",
        ),
    ),
    Fault(
        WRONG,
        "9 Crashed runs are listed as running; newer records break older checkouts",
        "the state is what this machine knows; unknown fields are left alone",
        (
            f"{RECORD}::test_the_state_says_what_this_machine_knows",
            f"{RECORD}::test_fields_of_a_newer_version_are_left_alone",
        ),
    ),
    Fault(
        WRONG,
        "Scores, losses or rounds that make no sense",
        "a rule of the spec stops with evidence, skips the round, or warns",
        (
            "unit/test_rules.py::test_a_broken_rule_stops_with_figure_bound_cause_and_evidence",
            "unit/fire/test_select.py::test_scores_that_are_not_finite_are_named",
            "integration/test_rules.py::test_a_skipped_round",
        ),
    ),
    Fault(
        WRONG,
        "An engine that runs out of memory",
        "named as such, with the field to lower",
        ("unit/engines/test_memory.py::test_what_to_lower_is_named",),
    ),
    Fault(
        LEAKS,
        "10 Untracked files: `.env`, model weights",
        "tracked changes only; what is left out is named; secrets and large files are refused",
        (
            f"{SNAPSHOT}::test_untracked_files_stay_and_are_named",
            f"{SNAPSHOT}::test_what_must_not_leave_is_refused",
            f"{WORKSPACE}::test_a_commit_has_named_files_and_nothing_else",
        ),
    ),
    Fault(
        LEAKS,
        "Secrets in the environment",
        "in nothing that a recorded run writes",
        ("lineage/test_canaries.py::test_no_secret_is_written_anywhere",),
    ),
    Fault(
        LEAKS,
        "11 Another user of the host: engines, Prefect's API, folders of state",
        "no address to connect to; a generated password; folders of mode 0700",
        (
            "unit/runtime/test_process.py::test_nobody_can_connect_to_an_engine",
            "unit/flows/test_password.py::test_the_password_is_made_once_for_its_owner_only",
            "unit/flows/test_password.py::test_a_private_server_refuses_who_has_no_password",
            "unit/storage/test_places.py::test_the_state_folder_is_made_for_its_owner_only",
        ),
    ),
    Fault(
        LEAKS,
        "12 Whoever can write the store: paths that escape, names of models, pickles",
        "every name from outside is checked by one function",
        (
            f"{STORE}::test_a_name_from_outside_stays_inside",
            "unit/lineage/test_objects.py::test_what_is_no_md5_is_no_key",
            "unit/lineage/test_objects.py::test_an_object_of_the_store_is_not_believed",
            f"{PROMOTION}::test_the_name_of_a_student_is_checked",
        ),
    ),
    Fault(
        LEAKS,
        "12 Prompt sets, specs, manifests, records, directory objects and Parquet from strangers",
        "bounded time and memory, an error of ours, and nothing is written elsewhere",
        (
            "unit/fuzz/test_files.py::test_a_value_or_an_error_of_ours",
            "unit/fuzz/test_files.py::test_a_value_or_an_error_of_ours_many_times",
            "unit/fuzz/test_files.py::test_a_value_or_an_error_of_ours_guided_by_coverage",
            "unit/fuzz/test_files.py::test_yaml_that_means_harm",
        ),
    ),
    Fault(
        LEAKS,
        "13 Names in shells and configuration; hub revisions that move",
        "only a commit pins a hub id; teachers' names have no shell in them; DVC's own format quotes paths",
        (
            "unit/spec/test_spec.py::test_a_contradiction_is_refused_by_name",
            "newcomer/test_places.py::test_everything_is_in_the_clone",
            "unit/spec/test_spec.py::test_only_a_pinned_name_is_a_hub_id",
            "unit/checks/test_checks_hub.py::test_what_can_move_is_no_pin",
        ),
    ),
    Fault(
        STUCK,
        "14 Names that git refuses, and half-made workspaces",
        "refused before anything is made; made again",
        (
            "unit/lineage/test_names.py::test_a_name_that_is_no_branch",
            "unit/lineage/test_names.py::test_a_branch_in_the_way",
            "unit/lineage/test_names.py::test_a_branch_below_the_name_is_in_the_way",
            f"{WORKSPACE}::test_a_half_removed_workspace_is_removed",
            f"{WORKSPACE}::test_something_else_in_the_place_of_a_workspace_is_kept",
            "unit/doctor/test_doctor.py::test_a_workspace_whose_move_was_killed_is_put_right",
            f"{OWNER}::test_a_start_that_was_killed_does_not_block_the_next_one",
        ),
    ),
    Fault(
        STUCK,
        "15 Dirty trees of every kind, stale locks, shallow clones",
        "changes come along byte for byte; the user's lock does not matter",
        (
            f"{SNAPSHOT}::test_changes_come_along_byte_for_byte",
            f"{SNAPSHOT}::test_a_lock_on_the_users_index_does_not_matter",
            f"{WORKSPACE}::test_the_lock_of_a_git_that_was_killed_in_a_runs_worktree_goes",
            f"{WORKSPACE}::test_the_lock_of_a_git_at_work_and_the_users_own_stay",
            f"{SNAPSHOT}::test_of_a_shallow_or_partial_clone_whose_origin_is_away_the_bundle_is_complete",
        ),
    ),
    Fault(
        STUCK,
        "16 Leases of the dead; a server that restarts; runs with private servers",
        "a dead holder's slot is free at once; runs take turns",
        (
            f"{LEASE}::test_the_slot_of_a_dead_run_is_free_at_once",
            f"{LEASE}::test_runs_with_private_servers_take_turns_too",
            "flows/test_turns.py::test_two_runs_share_the_machine_while_the_server_restarts",
            "flows/test_stops.py::test_a_run_whose_runner_died_too_is_shown_as_crashed",
            "flows/test_registration.py::test_only_our_flows_are_shown_as_crashed",
            "flows/test_registration.py::test_a_deployment_of_another_team_is_not_replaced",
        ),
    ),
    Fault(
        STUCK,
        "17 Buckets with SSE-KMS, whose ETag is no MD5, and uploads in parts",
        "S3's own SHA-256 of the file or of its parts; what was uploaded without one is read back once",
        (
            "unit/lineage/test_objects.py::test_an_upload_has_s3s_own_checksum",
            "unit/lineage/test_objects.py::test_what_is_there_is_checked",
            "unit/lineage/test_objects.py::test_what_rotted_here_is_not_pushed",
        ),
    ),
    Fault(
        STUCK,
        "18, 20 A run's machine is lost",
        "`fire-opd resume` goes on elsewhere, from the record alone",
        (
            "lineage/test_resume.py::test_it_goes_on_elsewhere_and_comes_back_on_a_third_machine",
            "lineage/test_resume.py::test_a_record_never_lacks_the_trainer_state_to_go_on_from",
        ),
    ),
    Fault(
        STUCK,
        "19 Ctrl-C of `make ui` with flows at work; ports in use; addresses that are none",
        "flows end as cancelled; one line names what is there",
        (
            "flows/test_ui.py::test_flow_runs_do_not_stay_running",
            "flows/test_ui.py::test_an_address_that_cannot_be_served",
            f"{PROBE}::test_nobody_answers",
            f"{PROBE}::test_an_address_without_api",
        ),
    ),
    Fault(
        STUCK,
        "22 One record that is damaged",
        "it is named, the others are listed",
        (f"{RECORD}::test_a_bad_record_is_named_and_the_others_are_listed",),
    ),
    Fault(
        STUCK,
        "23 Two starts of one name within a second",
        "one makes the run, the other is refused",
        ("lineage/test_starts.py::test_two_starts_of_one_name",),
    ),
    Fault(
        STUCK,
        "24 A closed terminal; a disk that fills",
        "SIGHUP is SIGTERM; the run goes on once there is space",
        (f"{FAULTS}::test_a_stopped_command_leaves_no_process", "faults/test_stages.py::test_a_run_endures"),
    ),
    Fault(
        STUCK,
        "25 Schedules missed while nothing served",
        "the latest runs, or all: a setting; what was skipped is said",
        ("flows/test_missed.py::test_only_the_latest_missed_run_is_left",),
    ),
    Fault(
        STUCK,
        "26 The user's own git and DVC configuration",
        "runs use configuration of their own; bundles need no origin",
        (
            f"{SNAPSHOT}::test_settings_of_the_user_do_not_reach_in",
            f"{WORKSPACE}::test_the_projects_own_remotes_stay_out_of_a_run",
            f"{WORKSPACE}::test_dvc_does_not_read_the_users_git_settings",
        ),
    ),
    Fault(
        STUCK,
        "What was left by the dead: processes, locks, temporary folders",
        "`fire-opd doctor` names it, and `--fix` removes what is surely nobody's",
        (
            "unit/doctor/test_doctor.py::test_what_was_left_is_found_and_removed",
            "unit/doctor/test_doctor.py::test_what_is_in_use_or_young_is_left_alone",
            "unit/doctor/test_doctor.py::test_a_runs_folder_that_is_not_mounted_is_named_and_nothing_is_removed",
            "unit/doctor/test_doctor.py::test_only_a_process_whose_recorded_parent_is_gone_is_ended",
        ),
    ),
]
