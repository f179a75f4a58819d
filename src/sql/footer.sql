-- What a dump contains, and who may do what.
--
-- The filters leave out what this script itself inserts, unless it was altered: then dugong.replace_installed() lets it in.

SELECT pg_catalog.pg_extension_config_dump('dugong.aggregate_types',
    $$WHERE NOT (origin = 'BankingContext-AccountService' AND name = 'BankAccount'
        AND fold IS NOT DISTINCT FROM '@extschema@.bank_account_fold(dugong.domain_event)' AND search_path = 'pg_catalog, pg_temp'
        AND depends_on IS NULL AND snapshot_interval IS NULL AND NOT strict AND NOT external
        AND owner = (SELECT pg_catalog.pg_get_userbyid(extowner) FROM pg_catalog.pg_extension WHERE extname = 'dugong'))$$);
SELECT pg_catalog.pg_extension_config_dump('dugong.event_types', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.tag_declarations', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.event_tags', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.event_log', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.event_log_position_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.projections',
    $$WHERE NOT (name = 'bank_account' AND query_model IS NOT DISTINCT FROM '@extschema@.bank_account_query_model'
        AND search_path = 'pg_catalog, pg_temp' AND types IS NULL AND mode = 'async' AND on_error = 'park' AND state = 'running' AND start_position = 0
        AND owner = (SELECT pg_catalog.pg_get_userbyid(extowner) FROM pg_catalog.pg_extension WHERE extname = 'dugong'))$$);
SELECT pg_catalog.pg_extension_config_dump('dugong.checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.checkpoint_holes', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.parked_aggregates', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.deliveries', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.imports', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.tenant_grants', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.tenant_isolation', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.bank_account_query_model', '');

-- PUBLIC has nothing, but for what store/tenants.sql says.  EXECUTE on a command is all that a user of it needs.
REVOKE ALL ON ALL ROUTINES IN SCHEMA dugong FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dugong.sees_tenant(text) TO PUBLIC;
REVOKE ALL ON TYPE dugong.domain_event, dugong.aggregate_change, dugong.aggregate_snapshots, dugong.snapshots, dugong.event_log, dugong.home, dugong.aggregate_types, dugong.event_types, dugong.tag_declarations, dugong.event_tags, dugong.declared_tags,
    dugong.projections, dugong.checkpoints, dugong.checkpoint_holes, dugong.parked_aggregates, dugong.deliveries, dugong.subscription_status, dugong.outstanding_events, dugong.projection_failures, dugong.rebuilds, dugong.stopped_workers, dugong.dead_letters, dugong.projection_status,
    dugong.worker_status, dugong.rebuild_progress, dugong.consumed_messages, dugong.imports, dugong.import_progress, dugong.domain_events, dugong.aggregates,
    dugong.tenant_grants, dugong.tenant_isolation, dugong.tenant_status,
    @extschema@.bank_account_state, @extschema@.bank_account_query_model FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.bank_account_apply(@extschema@.bank_account_state, dugong.domain_event),
    @extschema@.bank_account_fold(dugong.domain_event),
    @extschema@.bank_open_account(text, numeric, uuid, uuid),
    @extschema@.bank_deposit(uuid, numeric, uuid),
    @extschema@.bank_withdraw(uuid, numeric, uuid),
    @extschema@.bank_transfer(uuid, uuid, numeric, uuid),
    @extschema@.bank_close_account(uuid, uuid),
    @extschema@.bank_get_account(uuid) FROM PUBLIC;

-- The worker starts when this transaction commits.
SELECT dugong.start_workers();
