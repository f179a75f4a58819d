/*
 * names.h
 *		The objects of schema dugong, by name.
 */
#ifndef DUGONG_NAMES_H
#define DUGONG_NAMES_H

#include "postgres.h"

extern Oid	dugong_namespace(void);
extern Oid	dugong_relid(const char *name);
extern Oid	domain_event_typeid(void);
extern Oid	dugong_owner(void);
extern void names_init(void);

#endif							/* DUGONG_NAMES_H */
