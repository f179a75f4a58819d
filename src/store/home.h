/*
 * home.h
 *		Whether this database is one in which the log has grown.
 */
#ifndef DUGONG_HOME_H
#define DUGONG_HOME_H

#include "postgres.h"

extern int64 home_system_identifier(void);
extern void home_claim(void);
extern bool home_is_here(void);

#endif							/* DUGONG_HOME_H */
