-- Keeping tenants apart.

CREATE FUNCTION dugong.enable_tenant_isolation() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_enable_tenant_isolation';
COMMENT ON FUNCTION dugong.enable_tenant_isolation() IS
    'from now on each role sees and writes only tenants that were granted to it, in every function, view and query model; false if it was so';

CREATE FUNCTION dugong.disable_tenant_isolation() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_disable_tenant_isolation';
COMMENT ON FUNCTION dugong.disable_tenant_isolation() IS
    'takes back dugong.enable_tenant_isolation(); what was granted stays for another time';
