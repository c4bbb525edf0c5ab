"""What vidgate promises, and the tests that would break each promise; a run of all of them writes docs/PROMISES.md.

    python -m tests.promises    print the tests, for `make promises`

tests/support/promises_page.py says how. A test may record a figure (`record_property("figure", "...")`) that is the
same in every run on every machine; what varies belongs into a limit that the test asserts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise, the number that measures it, the tests that would break it, and what is still missing of it."""

    number: int
    title: str
    says: str
    limit: str
    tests: tuple[str, ...]
    missing: str = ""


def at(file: str, *names: str) -> tuple[str, ...]:
    """The tests of a file."""
    return tuple(f"{file}::{name}" for name in names)


PROMISES = (
    Promise(
        1,
        "Money is conserved",
        "Every booking has two sides, the books sum to 0 at every commit, and no entry is ever changed or deleted.",
        "violations: 0",
        (
            *at(
                "tests/stateful/test_ledger_machine.py",
                "TestLedger",
            ),
            *at(
                "tests/stateful/test_ledger_month.py",
                "test_a_month_of_traffic_closes_to_the_micro",
            ),
            *at(
                "tests/unit/money/test_mutants_fit.py",
                "test_each_fault_fits_the_code_once_and_names_tests_that_exist",
            ),
        ),
    ),
    Promise(
        2,
        "Nobody spends more than they have",
        "However many requests arrive at once, in one process or in two, what is admitted is what the money is for.",
        "admitted: balance / price, rounded down",
        (
            *at(
                "tests/stateful/test_budgets_two_processes.py",
                "test_two_processes_admit_exactly_what_the_money_is_for",
            ),
        ),
    ),
    Promise(
        3,
        "A hold settles once",
        "Late, duplicated and reordered polls, callbacks and operator's words change nothing that is settled.",
        "settlements per hold: 1",
        (
            *at(
                "tests/stateful/test_ledger_permutations.py",
                "test_any_order_of_settlements_ends_as_the_first_one_alone",
            ),
            *at(
                "tests/unit/engine/test_rulings.py",
                "test_a_doubt_is_ruled_on_once_and_a_new_one_anew",
            ),
        ),
    ),
    Promise(
        4,
        "One request, at most one paid render",
        "A submit is repeated only when it provably never left, when the vendor's records or an operator say that it "
        "was not taken, when the vendor answered an error and bills only results, or when the configuration says so.",
        "vendor-accepted submits per attempt: at most 1 wherever the vendor's records can be read",
        (
            *at(
                "tests/unit/engine/test_doubt.py",
                "test_a_lost_submit_that_the_vendors_records_have_is_followed_and_not_repeated",
                "test_no_other_route_is_started_while_one_is_in_doubt",
            ),
            *at(
                "tests/e2e/test_retry_on_the_wire.py",
                "test_a_502_on_submit_is_handled_as_the_mode_says",
            ),
            *at(
                "tests/crash/test_killed.py",
                "test_a_death_between_intent_and_token_is_looked_up_and_rendered_once",
            ),
            *at(
                "tests/unit/engine/test_lease_guard.py",
                "test_a_process_that_was_paused_asks_for_its_lease_before_it_submits",
            ),
        ),
        missing="Where records stay dark, or cannot tell two lost submits with the same inputs apart, one that was "
        "answered 502 or 504 by a vendor that bills only results is repeated and may be rendered twice there; the team "
        "pays once, the possible charge is the operator's.",
    ),
    Promise(
        5,
        "A timeout is not a verdict",
        "The hold stays while the vendor's answer is unknown. A failure is declared on the vendor's own word, on an "
        "operator's, or at the published deadline after one last look.",
        "wrongful refunds: 0",
        (
            *at(
                "tests/unit/engine/test_polling.py",
                "test_an_hour_of_failing_status_calls_ends_in_the_success_that_came_captured_once",
                "test_an_hour_of_failing_status_calls_ends_in_the_failure_that_came_released_once",
            ),
            *at(
                "tests/unit/engine/test_doubt_ends.py",
                "test_a_hint_to_wait_for_a_month_does_not_skip_the_last_look",
                "test_a_render_that_was_given_up_is_looked_for_once_more_before_the_job_ends",
                "test_the_deadline_of_a_doubt_is_published_and_kept",
            ),
        ),
    ),
    Promise(
        6,
        "Acknowledged means durable",
        "After a 2xx the job, its hold and its key survive a kill of the gateway, of the database and of Redis.",
        "lost acknowledgements: 0",
        (
            *at(
                "tests/crash/test_killed.py",
                "test_kills_at_random_moments_lose_nothing_and_pay_nothing_twice",
            ),
            *at(
                "tests/crash/test_kills.py",
                "test_kills_under_load_lose_nothing_and_pay_nothing_twice",
            ),
            *at(
                "tests/api/test_idempotency.py",
                "test_a_replay_survives_a_restart",
            ),
        ),
    ),
    Promise(
        7,
        "Crash anywhere, carry on anyway",
        "Whoever claims a job next goes on from its rows and ends it as if nothing had happened.",
        "jobs that end otherwise: 0",
        (
            *at(
                "tests/crash/test_failpoints.py",
                "test_a_job_ends_as_it_would_have_wherever_its_gateway_is_killed",
            ),
            *at("tests/crash/test_steps.py", "test_every_step_has_a_case"),
            *at(
                "tests/crash/test_two_replicas.py",
                "test_the_jobs_of_a_dead_replica_are_picked_up_within_lease_claim_and_a_second",
            ),
            *at(
                "tests/unit/engine/test_leases.py",
                "test_a_death_at_any_step_ends_as_if_it_had_not_happened",
                "test_a_lease_that_ran_out_is_taken_up_by_the_ordinary_claim",
            ),
            *at(
                "tests/unit/engine/test_doubt_ends.py",
                "test_a_death_at_the_verdict_never_sends_the_job_to_another_vendor",
            ),
        ),
    ),
    Promise(
        8,
        "A zombie cannot write",
        "A process whose lease was taken over changes no row.",
        "rows changed under an old fence: 0",
        (
            *at(
                "tests/unit/engine/test_leases.py",
                "test_a_process_whose_lease_was_taken_writes_nothing_more",
            ),
            *at(
                "tests/crash/test_two_replicas.py",
                "test_a_replica_that_comes_back_after_its_lease_changes_nothing",
            ),
        ),
    ),
    Promise(
        9,
        "A key means one outcome for a day",
        "The same key with the same request gets the same bytes; with another request 422, while the first runs 409.",
        "jobs per team and key: 1",
        (
            *at(
                "tests/api/test_idempotency.py",
                "test_fifty_identical_requests_at_once_make_one_job_and_one_hold",
                "test_the_same_request_again_gets_the_same_bytes_and_no_second_job",
                "test_the_key_with_another_request_is_refused",
            ),
            *at(
                "tests/stateful/test_idempotency_machine.py",
                "TestIdempotency",
            ),
        ),
    ),
    Promise(
        10,
        "Retries are bounded and obedient",
        "Extra calls stay within a fifth of the requests and a small reserve, at most three submits an attempt, never "
        "sooner than the vendor asked, and never all at the same moment.",
        "calls at total outage: at most 1.2 times the requests, and the reserve",
        (
            *at(
                "tests/unit/policies/test_retry.py",
                "test_a_total_outage_is_not_amplified",
                "test_a_repeat_is_never_early_never_late_and_never_one_too_many",
                "test_jitter_survives_the_cap",
            ),
            *at(
                "tests/e2e/test_retry_on_the_wire.py",
                "test_under_total_outage_of_a_vendor_extra_calls_stay_within_their_budget",
            ),
        ),
    ),
    Promise(
        11,
        "Every end is announced, at least once, under one id",
        "Events are written with the change and sent by Standard Webhooks for about 76 hours; 410 disables, a redirect "
        "is a failure, and no endpoint holds up another.",
        "ids per event: 1",
        (
            *at(
                "tests/unit/test_outbox.py",
                "test_the_published_vector_is_signed_as_published",
                "test_the_schedule_is_the_published_one",
                "test_anything_but_a_2xx_is_tried_again_under_the_same_id",
                "test_a_410_ends_the_endpoint",
                "test_rotation_signs_with_both_secrets_for_its_time",
            ),
            *at(
                "tests/unit/test_outbox_endpoints.py",
                "test_a_dead_endpoint_with_a_pile_does_not_hold_up_another",
            ),
            *at(
                "tests/unit/store/test_sends.py",
                "test_replicas_send_every_event_once_to_each_endpoint",
            ),
            *at(
                "tests/crash/test_webhooks_killed.py",
                "test_an_event_is_sent_by_the_next_process_under_its_id",
            ),
        ),
    ),
    Promise(
        12,
        "Callbacks are hints, not truth",
        "A vendor's callback only makes vidgate ask sooner; a forged one changes nothing.",
        "changes by a callback: 0",
        (
            *at(
                "tests/e2e/test_vendor_webhooks.py",
                "test_trap_26_a_forged_callback_changes_nothing",
                "test_trap_26_what_a_callback_says_is_never_believed",
            ),
            *at(
                "tests/api/test_links.py",
                "test_a_link_of_another_secret_leads_nowhere",
            ),
        ),
    ),
    Promise(
        13,
        "No foreign URL reaches a private address, and no key leaves its vendor",
        "Inputs, results and webhook targets pass one guard, on every hop and under DNS rebinding.",
        "connections to private addresses: 0",
        (
            *at(
                "tests/unit/test_outbound_sockets.py",
                "test_the_lists_are_as_long_as_promised",
                "test_no_spelling_of_a_private_host_reaches_a_socket",
                "test_no_hostile_form_of_a_url_reaches_a_socket",
                "test_no_name_reaches_a_private_address",
                "test_no_redirect_leads_to_a_private_place",
                "test_a_webhook_is_not_sent_on",
                "test_a_vendors_key_is_told_to_that_vendor_alone",
            ),
            *at(
                "tests/unit/test_outbound.py",
                "test_every_redirect_is_checked_where_it_connects",
                "test_a_name_that_changes_its_address_gains_nothing",
            ),
            *at(
                "tests/unit/test_outbound_bodies.py",
                "test_nothing_of_ours_is_told_to_a_foreign_server",
            ),
            *at(
                "tests/unit/test_outbox_guard.py",
                "test_no_event_goes_to_a_private_place",
            ),
        ),
    ),
    Promise(
        14,
        "Any single request is bounded",
        "In bytes, pixels, time and memory: bodies, pictures and downloads are cut off at their limits, and files of "
        "strangers are opened in processes of their own.",
        "a small file: at most 64 MiB and 5 s of a process beside the gateway, which itself grows by less than 32 MiB",
        (
            *at(
                "tests/api/test_bad_input.py",
                "test_a_body_over_the_limit_is_refused_before_it_is_read",
            ),
            *at(
                "tests/unit/media/test_intake.py",
                "test_a_huge_header_is_refused_before_any_decoding",
            ),
            *at(
                "tests/corpus/test_corpus.py",
                "test_each_file_comes_to_the_verdict_that_its_row_says",
                "test_no_file_costs_more_than_its_share",
                "test_no_name_in_a_file_is_followed",
            ),
            *at(
                "tests/unit/media/test_workers.py",
                "test_a_worker_that_breaks_is_told_of_and_replaced",
                "test_workers_die_with_a_gateway_that_is_killed",
            ),
            *at(
                "tests/unit/test_outbound_bodies.py",
                "test_an_endless_body_is_cut_off",
                "test_a_slow_drip_ends_at_the_deadline",
                "test_an_encoded_body_is_refused_before_it_can_unfold",
            ),
            *at(
                "tests/e2e/test_hostile_memory.py",
                "test_a_bomb_costs_no_more_than_a_common_request",
                "test_an_endless_head_and_a_thousand_requests_at_once_cost_next_to_nothing",
                "test_the_largest_body_costs_a_few_times_its_size",
            ),
            *at(
                "tests/e2e/test_hostile_connections.py",
                "test_a_head_that_drips_is_ended_in_its_time",
                "test_a_body_that_drips_is_ended_in_its_time",
                "test_who_does_not_take_the_reply_is_cut_off",
            ),
        ),
        missing="A body of the largest size costs up to five times that size while it is read, which is more than "
        "32 MiB: `server.body_bytes_max` bounds it, and the bytes of all bodies together are bounded too.",
    ),
    Promise(
        15,
        "You see only what is yours, and errors speak one language",
        "Every address with an id is 404 to another team; every error is a problem of a documented type.",
        "reads across teams: 0; undocumented errors: 0",
        (
            *at(
                "tests/api/test_tenancy.py",
                "test_an_address_with_an_id_is_nothing_to_another_team",
                "test_every_other_address_asks_for_a_key",
            ),
            *at(
                "tests/unit/test_problems.py",
                "test_every_problem_has_a_page_with_a_true_example",
                "test_the_api_description_names_every_type",
            ),
            *at(
                "tests/api/test_two_teams.py",
                "test_neither_team_is_told_anything_of_the_others",
                "test_the_game_finds_a_handler_that_forgets_the_team",
            ),
            *at("tests/api/test_strangers.py", "test_no_header_whatsoever_opens_the_door_or_breaks_it"),
            *at("tests/fuzz/test_description.py", "test_the_gateway_is_as_its_description_says"),
        ),
    ),
)
LISTED = tuple(dict.fromkeys(test for promise in PROMISES for test in promise.tests))


if __name__ == "__main__":
    print(" ".join(LISTED))
