/*
 * fingerprint.c
 *		What a state was made with, in 64 bits.
 *
 * A stored state is good as long as the same events would give it again.  The
 * fingerprint covers what they pass through: the aggregate function, its
 * transition and final functions and the functions, operators and types that
 * those are recorded to depend on (a body in BEGIN ATOMIC ... END records
 * them), those that the aggregate type was declared to depend on, the state
 * type, and the upcasts of the type's events.  A function counts with its
 * whole row in pg_proc; an aggregate function also with that in pg_aggregate,
 * one in C with the build id of the library that is loaded.  A type counts
 * with what it is made of: columns, labels, constraints.
 *
 * It is computed from the catalogs and kept until one of them changes, which
 * this session's own changes do at the next command.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "aggregate/fingerprint.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_language.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/event_type.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"
#include "util/identity.h"
#include "util/relation_watch.h"

typedef struct Known
{
	int32		type_id;
	int64		fingerprint;
} Known;

static HTAB *known;				/* in CacheMemoryContext; NULL = nothing is known */
static uint64 changes;			/* of catalogs, seen so far */

/* A computation: the hash so far, and what it has been through. */
typedef struct Mix
{
	uint64		hash;
	List	   *functions;
	List	   *types;
} Mix;

static void mix_function(Mix *mix, Oid function);
static void mix_type(Mix *mix, Oid type);

/* Everything is forgotten: to see what exactly has changed costs more than to compute it again. */
static void
forget(void)
{
	changes++;
	if (known)
		hash_destroy(known);
	known = NULL;
}

static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	forget();
}

static void
relation_changed(Datum arg, Oid relid)
{
	forget();
}

void
fingerprint_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AGGFNOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(ENUMOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(CONSTROID, catalog_changed, (Datum) 0);
	relation_watch(relation_changed, (Datum) 0);
}

static void
mix_bytes(Mix *mix, const void *bytes, int length)
{
	mix->hash = hash_combine64(mix->hash, hash_bytes_extended(bytes, length, length));
}

static void
mix_string(Mix *mix, const char *string)
{
	mix_bytes(mix, string ? string : "", string ? strlen(string) + 1 : 0);
}

/* A catalog row, without what a rewrite of the catalog changes. */
static void
mix_row(Mix *mix, HeapTuple tuple)
{
	mix_bytes(mix, (char *) tuple->t_data + tuple->t_data->t_hoff,
			  tuple->t_len - tuple->t_data->t_hoff);
}

/* A search for the library that holds an address. */
typedef struct BuildId
{
	uintptr_t	address;
	Mix		   *mix;
} BuildId;

/* Mixes in the GNU build id among a segment's notes. */
static void
mix_notes(Mix *mix, const char *notes, size_t size)
{
	size_t		offset = 0;

	while (offset + sizeof(ElfW(Nhdr)) <= size)
	{
		const ElfW(Nhdr) *note = (const void *) (notes + offset);
		size_t		name = offset + sizeof(*note);
		size_t		content = name + TYPEALIGN(4, note->n_namesz);

		if (note->n_type == NT_GNU_BUILD_ID && content + note->n_descsz <= size)
			mix_bytes(mix, notes + content, note->n_descsz);
		offset = content + TYPEALIGN(4, note->n_descsz);
	}
}

static int
visit_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	BuildId    *search = arg;
	bool		holds = false;

	for (int i = 0; i < info->dlpi_phnum && !holds; i++)
	{
		const		ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t	start = info->dlpi_addr + segment->p_vaddr;

		holds = segment->p_type == PT_LOAD && search->address >= start &&
			search->address < start + segment->p_memsz;
	}
	for (int i = 0; i < info->dlpi_phnum && holds; i++)
	{
		const		ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type == PT_NOTE)
			mix_notes(search->mix, (const char *) (info->dlpi_addr + segment->p_vaddr), segment->p_memsz);
	}
	return holds;
}

/* The library that is loaded, not the one that may lie in its place by now. */
static void
mix_library(Mix *mix, Oid function)
{
	FmgrInfo	info;
	BuildId		search = {0, mix};

	fmgr_info(function, &info);
	search.address = (uintptr_t) info.fn_addr;
	(void) dl_iterate_phdr(visit_library, &search);
}

/* The functions, operators and types that a function is recorded to depend on. */
static void
mix_dependencies(Mix *mix, Oid function)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(function));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend dependency = (Form_pg_depend) GETSTRUCT(tuple);

		if (dependency->refclassid == ProcedureRelationId)
			mix_function(mix, dependency->refobjid);
		else if (dependency->refclassid == OperatorRelationId)
			mix_function(mix, get_opcode(dependency->refobjid));
		else if (dependency->refclassid == TypeRelationId)
			mix_type(mix, dependency->refobjid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
}

/* What an aggregate function is, beside its row in pg_proc. */
static void
mix_aggregate(Mix *mix, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));

	if (!HeapTupleIsValid(tuple))
		return;
	mix_row(mix, tuple);
	ReleaseSysCache(tuple);
}

static void
mix_function(Mix *mix, Oid function)
{
	HeapTuple	tuple;
	Form_pg_proc proc;

	check_stack_depth();
	if (list_member_oid(mix->functions, function))
		return;
	mix->functions = lappend_oid(mix->functions, function);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;					/* who calls it finds out */
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	mix_row(mix, tuple);
	if (proc->prolang == ClanguageId)
		mix_library(mix, function);
	if (proc->prokind == PROKIND_AGGREGATE)
		mix_aggregate(mix, function);
	ReleaseSysCache(tuple);
	mix_dependencies(mix, function);
}

/* The rows of a catalog that belong to a type, in the order of an index on it. */
static void
mix_rows(Mix *mix, Oid catalog, Oid index, AttrNumber column, Oid type)
{
	Relation	relation = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(relation, index, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
		mix_row(mix, tuple);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
}

static void
mix_columns(Mix *mix, Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			continue;
		mix_string(mix, NameStr(attribute->attname));
		mix_bytes(mix, &attribute->atttypmod, sizeof(attribute->atttypmod));
		mix_type(mix, attribute->atttypid);
	}
	ReleaseTupleDesc(desc);
}

static void
mix_type(Mix *mix, Oid type)
{
	HeapTuple	tuple;
	Form_pg_type form;
	Oid			element;
	char		typtype;

	check_stack_depth();
	mix_bytes(mix, &type, sizeof(type));
	if (list_member_oid(mix->types, type))
		return;
	mix->types = lappend_oid(mix->types, type);
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_type) GETSTRUCT(tuple);
	typtype = form->typtype;
	element = typtype == TYPTYPE_DOMAIN ? form->typbasetype : form->typelem;
	ReleaseSysCache(tuple);
	if (typtype == TYPTYPE_COMPOSITE)
		mix_columns(mix, type);
	else if (typtype == TYPTYPE_ENUM)
		mix_rows(mix, EnumRelationId, EnumTypIdLabelIndexId, Anum_pg_enum_enumtypid, type);
	else if (typtype == TYPTYPE_RANGE)
		mix_type(mix, get_range_subtype(type));
	else if (typtype == TYPTYPE_MULTIRANGE)
		mix_type(mix, get_multirange_range(type));
	if (typtype == TYPTYPE_DOMAIN)
		mix_rows(mix, ConstraintRelationId, ConstraintTypidIndexId, Anum_pg_constraint_contypid, type);
	if (OidIsValid(element))
		mix_type(mix, element);
}

/* The function of a signature; invalid if it is gone. */
static Oid
find_function(const char *signature)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		function;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(signature);
	fcinfo->args[0].isnull = false;
	function = to_regprocedure(fcinfo);
	return fcinfo->isnull ? InvalidOid : DatumGetObjectId(function);
}

static void
mix_fold(Mix *mix, const AggregateType *type)
{
	Oid			fold = type->fold ? find_function(type->fold) : InvalidOid;
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(fold));
	FormData_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		return;
	form = *(Form_pg_aggregate) GETSTRUCT(tuple);
	mix_row(mix, tuple);
	ReleaseSysCache(tuple);
	mix_function(mix, form.aggtransfn);
	if (OidIsValid(form.aggfinalfn))
		mix_function(mix, form.aggfinalfn);
	mix_type(mix, form.aggtranstype);
}

/* One that is gone counts with its name alone. */
static void
mix_signature(Mix *mix, const char *signature)
{
	Oid			function = find_function(signature);

	mix_string(mix, signature);
	if (OidIsValid(function))
		mix_function(mix, function);
}

static void
mix_declared(Mix *mix, const AggregateType *type)
{
	Datum	   *signatures;
	int			count;

	if (type->depends_on == NULL)
		return;
	deconstruct_array(type->depends_on, TEXTOID, -1, false, TYPALIGN_INT, &signatures, NULL, &count);
	for (int i = 0; i < count; i++)
		mix_signature(mix, TextDatumGetCString(signatures[i]));
}

/* The declared versions of the type's events, and how one becomes the next. */
static void
mix_upcasts(Mix *mix, const AggregateType *type)
{
	List	   *upcasts = event_type_upcasts(type->id);
	ListCell   *cell;

	foreach(cell, upcasts)
	{
		const DeclaredUpcast *declared = lfirst(cell);

		mix_string(mix, declared->type);
		mix_bytes(mix, &declared->version, sizeof(declared->version));
		if (declared->upcast)
			mix_signature(mix, declared->upcast);
		else
			mix_string(mix, NULL);
	}
}

/* Who asks need not be allowed to see the fold: it is looked for with the extension owner's rights. */
static int64
compute(const AggregateType *type)
{
	Mix			mix = {0};
	Identity	before;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong fingerprint",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	identity_assume(&before, dugong_owner());
	mix_string(&mix, type->owner);
	mix_string(&mix, type->search_path);
	mix_fold(&mix, type);
	mix_declared(&mix, type);
	mix_upcasts(&mix, type);
	identity_restore(&before);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return (int64) mix.hash;
}

/* The fingerprint of a type.  A function that is gone counts with its name. */
int64
fingerprint_get(const AggregateType *type)
{
	Known	   *entry = known ? hash_search(known, &type->id, HASH_FIND, NULL) : NULL;
	uint64		before = changes;
	int64		fingerprint;

	if (entry)
		return entry->fingerprint;
	fingerprint = compute(type);
	/* What changed meanwhile may be in it, or not: it is computed again next time. */
	if (before != changes)
		return fingerprint;
	if (known == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32),.entrysize = sizeof(Known),.hcxt = CacheMemoryContext};

		known = hash_create("dugong fingerprints", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(known, &type->id, HASH_ENTER, NULL);
	entry->fingerprint = fingerprint;
	return fingerprint;
}

/*
 * Changes whenever something has changed that a fingerprint may depend on:
 * what was read of a fold from the catalogs is good as long as this is the same.
 */
uint64
fingerprint_age(void)
{
	return changes;
}

int64
fingerprint_add_string(int64 fingerprint, const char *string)
{
	Mix			mix = {.hash = (uint64) fingerprint};

	mix_string(&mix, string);
	return (int64) mix.hash;
}

/* A fingerprint that also covers a function, with what it depends on. */
int64
fingerprint_add_function(int64 fingerprint, const char *signature)
{
	Mix			mix = {.hash = (uint64) fingerprint};
	Identity	before;

	identity_assume(&before, dugong_owner());
	mix_signature(&mix, signature);
	identity_restore(&before);
	return (int64) mix.hash;
}

/*
 * A fingerprint that also covers the columns of a table.
 *
 * name: qualified, quoted as SQL needs it.  A table that is gone counts with
 * its name alone.
 */
int64
fingerprint_add_table(int64 fingerprint, const char *name)
{
	Mix			mix = {.hash = (uint64) fingerprint};
	RangeVar   *table = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
	Identity	before;
	Oid			relid;

	identity_assume(&before, dugong_owner());
	relid = RangeVarGetRelid(table, NoLock, true);
	mix_string(&mix, name);
	if (OidIsValid(relid) && OidIsValid(get_rel_type_id(relid)))
		mix_type(&mix, get_rel_type_id(relid));
	identity_restore(&before);
	return (int64) mix.hash;
}
