/*
 * isolation.h
 *		Keeping tenants apart.
 */
#ifndef DUGONG_ISOLATION_H
#define DUGONG_ISOLATION_H

#include "postgres.h"

extern void isolation_protect(Oid relid);

#endif							/* DUGONG_ISOLATION_H */
