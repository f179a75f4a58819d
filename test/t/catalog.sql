-- All that the catalogs say of the extension, a line for each fact, without object ids: two ways to the same version must give the same lines.
WITH member AS (
    SELECT classid, objid, pg_describe_object(classid, objid, 0) AS name
    FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
        AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dugong')),
relation AS (SELECT c.*, m.name FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid),
procedure AS (SELECT p.*, m.name FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid),
type AS (SELECT t.*, m.name FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid)
SELECT format('%s | %s', name, fact) COLLATE "C" AS line FROM (
    SELECT name, 'is a member' AS fact FROM member
    UNION ALL
    SELECT m.name, format('comment %s %s', a.attname, d.description) FROM member m JOIN pg_description d ON d.classoid = m.classid AND d.objoid = m.objid
        LEFT JOIN pg_attribute a ON d.objsubid > 0 AND a.attrelid = m.objid AND a.attnum = d.objsubid
    UNION ALL
    SELECT 'comment', format('%s %s', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description
        WHERE classoid IN ('pg_trigger'::regclass, 'pg_constraint'::regclass)
    UNION ALL
    -- Relations
    SELECT name, format('kind %s, persistence %s, owner is me %s, options %s, row security %s %s, replica identity %s, access method %s, tablespace %s', relkind, relpersistence,
        pg_has_role(relowner, 'USAGE'), reloptions, relrowsecurity, relforcerowsecurity, relreplident, (SELECT amname FROM pg_am WHERE oid = relam), reltablespace) FROM relation
    UNION ALL
    SELECT name, format('acl %s', (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) x)) FROM relation
    UNION ALL
    SELECT r.name, format('column %s %s %s, not null %s, default %s, identity %s, generated %s, storage %s, compression %s, collation %s, statistics %s, options %s, acl %s',
        row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
        a.attstorage, a.attcompression, a.attcollation::regcollation, a.attstattarget, (SELECT array_agg(o) FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg_attver=%'), a.attacl)
        FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT r.name, format('constraint %s %s, validated %s', conname, pg_get_constraintdef(c.oid), convalidated) FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
    UNION ALL
    SELECT r.name, format('index %s %s, valid %s, clustered %s, options %s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), indisvalid, indisclustered, ic.reloptions)
        FROM relation r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class ic ON ic.oid = i.indexrelid
    UNION ALL
    SELECT r.name, format('trigger %s enabled %s', pg_get_triggerdef(t.oid), tgenabled) FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT tgisinternal
    UNION ALL
    SELECT r.name, format('rule %s enabled %s', pg_get_ruledef(w.oid), ev_enabled) FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid
    UNION ALL
    SELECT r.name, format('sequence %s %s %s %s %s %s %s, owned by %s', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle,
        pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)) FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
        LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i')
    UNION ALL
    SELECT r.name, format('policy %s', to_jsonb(p) - 'oid' - 'polrelid') FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL
    SELECT r.name, format('statistics %s', pg_get_statisticsobjdef(s.oid)) FROM relation r JOIN pg_statistic_ext s ON s.stxrelid = r.oid
    UNION ALL
    -- Functions
    SELECT name, format('function %s', pg_get_functiondef(oid)) FROM procedure WHERE prokind <> 'a'
    UNION ALL
    SELECT name, format('acl %s, owner is me %s', (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(proacl) x), pg_has_role(proowner, 'USAGE')) FROM procedure
    UNION ALL
    SELECT p.name, format('aggregate %s', jsonb_agg(to_jsonb(a) - 'aggfnoid' - 'aggtranstype' - 'aggmtranstype' || jsonb_build_object('type', aggtranstype::regtype, 'parallel', proparallel)))
        FROM procedure p JOIN pg_aggregate a ON a.aggfnoid = p.oid GROUP BY p.name
    UNION ALL
    -- Types, casts, operators, event triggers
    SELECT name, format('type %s %s, not null %s, default %s, acl %s, checks %s', typtype, typcategory, typnotnull, typdefault, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(typacl) x),
        (SELECT array_agg(pg_get_constraintdef(c.oid) ORDER BY 1) FROM pg_constraint c WHERE c.contypid = t.oid)) FROM type t
    UNION ALL
    SELECT r.name, format('acl of the row type %s', (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(typacl) x)) FROM relation r JOIN pg_type t ON t.oid = r.reltype
    UNION ALL
    SELECT m.name, format('cast %s %s %s', castfunc::regprocedure, castcontext, castmethod) FROM member m JOIN pg_cast c ON m.classid = 'pg_cast'::regclass AND c.oid = m.objid
    UNION ALL
    SELECT m.name, format('event trigger %s %s %s %s', evtevent, evtfoid::regprocedure, evtenabled, evttags) FROM member m JOIN pg_event_trigger e ON m.classid = 'pg_event_trigger'::regclass AND e.oid = m.objid
    UNION ALL
    -- The extension itself, and what a dump contains
    SELECT 'initial privileges of ' || pg_describe_object(classoid, objoid, 0), format('%s %s %s', objsubid, privtype, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(initprivs) x))
        FROM pg_init_privs WHERE (classoid, objoid) IN (SELECT classid, objid FROM member)
    UNION ALL
    SELECT 'extension', format('version %s, schema %s, relocatable %s', extversion, extnamespace::regnamespace, extrelocatable) FROM pg_extension WHERE extname = 'dugong'
    UNION ALL
    SELECT 'dump', format('%s %s', o::regclass, c) FROM pg_extension, unnest(extconfig, extcondition) AS u (o, c) WHERE extname = 'dugong'
    UNION ALL
    -- What the script inserts
    SELECT 'aggregate type', (to_jsonb(t) - 'owner')::text FROM dugong.aggregate_types t WHERE name = 'BankAccount'
    UNION ALL
    SELECT 'projection', to_jsonb(p)::text FROM dugong.projections p WHERE name = 'bank_account'
) x ORDER BY line;
