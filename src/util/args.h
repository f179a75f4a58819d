/*
 * args.h
 *		Arguments of SQL-callable functions.
 */
#ifndef DUGONG_ARGS_H
#define DUGONG_ARGS_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/uuid.h"

extern Datum arg_needed(FunctionCallInfo fcinfo, int number, const char *name);
extern pg_uuid_t *arg_needed_uuid(FunctionCallInfo fcinfo, int number, const char *name);
extern char *arg_needed_name(FunctionCallInfo fcinfo, int number, const char *name);
extern pg_uuid_t *arg_uuid(FunctionCallInfo fcinfo, int number);
extern bool call_is_atomic(FunctionCallInfo fcinfo);
extern char *arg_name(FunctionCallInfo fcinfo, int number);

#endif							/* DUGONG_ARGS_H */
