/*
 * compat.h
 *		All differences between the PostgreSQL versions that dugong supports.
 *
 * No other file tests PG_VERSION_NUM.
 */
#ifndef DUGONG_COMPAT_H
#define DUGONG_COMPAT_H

#include "access/genam.h"
#include "access/tableam.h"
#include "nodes/tidbitmap.h"
#include "storage/lock.h"
#include "storage/proc.h"
#if PG_VERSION_NUM >= 170000
#include "storage/procarray.h"
#else
#include "storage/sinvaladt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "dugong needs PostgreSQL 15 or later"
#endif

/* 18 has it as a word that stands first. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* The process of a virtual transaction id, or NULL; and its local transaction id. */
#if PG_VERSION_NUM >= 170000
#define vxid_get_proc(vxid) ProcNumberGetProc((vxid).procNumber)
#define proc_local_xid(proc) ((proc)->vxid.lxid)
#else
#define vxid_get_proc(vxid) BackendIdGetProc((vxid).backendId)
#define proc_local_xid(proc) ((proc)->lxid)
#endif

/* This process's place among ProcGlobal->allProcs. */
#if PG_VERSION_NUM >= 170000
#define MyProcNumberCompat MyProcNumber
#else
#define MyProcNumberCompat MyProc->pgprocno
#endif

/* 18 turned the question round. */
#if PG_VERSION_NUM >= 180000
#define proc_is_background_worker(proc) (!(proc)->isRegularBackend)
#else
#define proc_is_background_worker(proc) ((proc)->isBackgroundWorker)
#endif

/* Can another background worker start?  16 made it another list. */
#if PG_VERSION_NUM >= 160000
#define background_worker_is_free() (!dlist_is_empty(&ProcGlobal->bgworkerFreeProcs))
#else
#define background_worker_is_free() (ProcGlobal->bgworkerFreeProcs != NULL)
#endif

/* 17 added a timeout that ends the session; 0 = none. */
#if PG_VERSION_NUM >= 170000
#define transaction_timeout_compat TransactionTimeout
#else
#define transaction_timeout_compat 0
#endif

/* 17 added: does a stronger lock do, too? */
#if PG_VERSION_NUM >= 170000
#define lock_held_by_me(tag, mode) LockHeldByMe(tag, mode, false)
#else
#define lock_held_by_me(tag, mode) LockHeldByMe(tag, mode)
#endif

/* 18 added a place for instrumentation. */
#if PG_VERSION_NUM >= 180000
#define index_beginscan_compat(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define index_beginscan_compat(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

#if PG_VERSION_NUM >= 180000
#define index_beginscan_bitmap_compat(index, snapshot, nkeys) \
	index_beginscan_bitmap(index, snapshot, NULL, nkeys)
#else
#define index_beginscan_bitmap_compat(index, snapshot, nkeys) \
	index_beginscan_bitmap(index, snapshot, nkeys)
#endif

/* The pages of a bitmap; 18 renamed the functions, and gives out the result otherwise. */
#if PG_VERSION_NUM >= 180000
typedef TBMPrivateIterator BitmapIterator;
#define bitmap_begin_iterate(bitmap) tbm_begin_private_iterate(bitmap)
#define bitmap_end_iterate(iterator) tbm_end_private_iterate(iterator)
#else
typedef TBMIterator BitmapIterator;
#define bitmap_begin_iterate(bitmap) tbm_begin_iterate(bitmap)
#define bitmap_end_iterate(iterator) tbm_end_iterate(iterator)
#endif

static inline bool
bitmap_next_block(BitmapIterator *iterator, BlockNumber *block)
{
#if PG_VERSION_NUM >= 180000
	TBMIterateResult result;

	if (!tbm_private_iterate(iterator, &result))
		return false;
	*block = result.blockno;
#else
	TBMIterateResult *result = tbm_iterate(iterator);

	if (result == NULL)
		return false;
	*block = result->blockno;
#endif
	return true;
}

/* 17 keeps what a BRIN index has open between two entries. */
#if PG_VERSION_NUM >= 170000
#define index_insert_end(index, info) index_insert_cleanup(index, info)
#else
#define index_insert_end(index, info) ((void) 0)
#endif

/* The last leaf page of a btree, read-locked; 17 took away the snapshot. */
#if PG_VERSION_NUM >= 170000
#define bt_get_last_leaf(index) _bt_get_endpoint(index, 0, true)
#else
#define bt_get_last_leaf(index) _bt_get_endpoint(index, 0, true, NULL)
#endif

/* 16 tells which indexes need a new entry after an update. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes UpdatedIndexes;
#define updated_indexes_any(updated) ((updated) != TU_None)
#else
typedef bool UpdatedIndexes;
#define updated_indexes_any(updated) (updated)
#endif

/* 16 made privilege checks one function for all kinds of objects. */
#if PG_VERSION_NUM >= 160000
#define table_ownercheck(oid, role) object_ownercheck(RelationRelationId, oid, role)
#define function_aclcheck(oid, role) object_aclcheck(ProcedureRelationId, oid, role, ACL_EXECUTE)
#define type_aclcheck(oid, role) object_aclcheck(TypeRelationId, oid, role, ACL_USAGE)
#else
#define table_ownercheck(oid, role) pg_class_ownercheck(oid, role)
#define function_aclcheck(oid, role) pg_proc_aclcheck(oid, role, ACL_EXECUTE)
#define type_aclcheck(oid, role) pg_type_aclcheck(oid, role, ACL_USAGE)
#endif

/* 16 tells membership from the right to become a role. */
#if PG_VERSION_NUM < 160000
#define check_can_set_role(member, role) check_is_member_of_role(member, role)
#endif

/* 16 made the last argument an error-saving node. */
#if PG_VERSION_NUM >= 160000
#define parse_type_string(string, type, typmod) (void) parseTypeString(string, type, typmod, NULL)
#else
#define parse_type_string(string, type, typmod) parseTypeString(string, type, typmod, false)
#endif

/* 16 added: copy the value? */
#if PG_VERSION_NUM >= 160000
#define tuplesort_getdatum_compat(state, value, isnull, abbreviated) \
	tuplesort_getdatum(state, true, true, value, isnull, abbreviated)
#else
#define tuplesort_getdatum_compat(state, value, isnull, abbreviated) \
	tuplesort_getdatum(state, true, value, isnull, abbreviated)
#endif

#endif							/* DUGONG_COMPAT_H */
