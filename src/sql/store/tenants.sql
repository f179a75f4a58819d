-- Tenants, and who sees which.

CREATE TABLE dugong.tenant_grants (
    role text,
    tenant_id text,
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (role, tenant_id)
);
COMMENT ON TABLE dugong.tenant_grants IS 'which role, and who has its rights, sees which tenant''s events while tenants are isolated';
COMMENT ON COLUMN dugong.tenant_grants.role IS 'its name: a dump carries it, and a role that does not exist has nothing';
COMMENT ON COLUMN dugong.tenant_grants.tenant_id IS 'empty = what belongs to no tenant';

CREATE TABLE dugong.tenant_isolation (
    enabled boolean PRIMARY KEY CHECK (enabled),
    enabled_by text NOT NULL,
    enabled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dugong.tenant_isolation IS 'has a row while dugong.enable_tenant_isolation() holds';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.tenant_grants
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.tenant_grants ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION dugong.tenant_isolation_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_tenant_isolation_changed';
COMMENT ON FUNCTION dugong.tenant_isolation_changed() IS
    'trigger: tells all sessions, and does to the extension''s views and tables what it takes';

-- An update script that replaces a view ends with UPDATE dugong.tenant_isolation SET enabled = true.
CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.tenant_isolation
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.tenant_isolation_changed();
ALTER TABLE dugong.tenant_isolation ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION dugong.sees_tenant_support(internal) RETURNS internal
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'dugong_sees_tenant_support';
COMMENT ON FUNCTION dugong.sees_tenant_support(internal) IS 'for the planner: leaves dugong.sees_tenant() out while tenants are not isolated';

-- Views and policies call it with the rights of whoever queries them, so it is PUBLIC's: it tells a role about itself alone.
CREATE FUNCTION dugong.sees_tenant(tenant_id text) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT dugong.sees_tenant_support AS 'MODULE_PATHNAME', 'dugong_sees_tenant';
COMMENT ON FUNCTION dugong.sees_tenant(text) IS
    'does the current user see what belongs to a tenant? NULL = to all tenants; true while they are not isolated';

CREATE FUNCTION dugong.grant_tenant(role text, tenant_id text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_grant_tenant';
COMMENT ON FUNCTION dugong.grant_tenant(text, text) IS
    'lets a role, and who has its rights, see a tenant while tenants are isolated; false if it did already';

CREATE FUNCTION dugong.revoke_tenant(role text, tenant_id text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_revoke_tenant';
COMMENT ON FUNCTION dugong.revoke_tenant(text, text) IS 'takes back dugong.grant_tenant(); false if it was not granted';
