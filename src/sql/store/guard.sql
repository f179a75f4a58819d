-- The log must not go by accident: loads the library, whose hook refuses.

CREATE FUNCTION dugong.guard_drop() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_guard_drop';
COMMENT ON FUNCTION dugong.guard_drop() IS
    'event trigger: refuses to drop the log while it holds events, unless dugong.allow_drop is on';

CREATE EVENT TRIGGER dugong_guard_drop ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP TABLE', 'ALTER EXTENSION')
    EXECUTE FUNCTION dugong.guard_drop();
ALTER EVENT TRIGGER dugong_guard_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER dugong_guard_drop IS 'refuses to drop the event log while it holds events';
