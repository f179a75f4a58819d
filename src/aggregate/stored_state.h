/*
 * stored_state.h
 *		The binary form of a state.
 */
#ifndef DUGONG_STORED_STATE_H
#define DUGONG_STORED_STATE_H

#include "postgres.h"

/* A state and its stored form; one of the two is made from the other. */
typedef struct StoredState
{
	Oid			type;
	Datum		state;
	bytea	   *stored;
	bool		same;			/* does the one give the other? */
} StoredState;

extern bool stored_state_same(Oid type, Datum one, Datum other);
extern void stored_state_read(void *arg);
extern void stored_state_write(void *arg);

#endif							/* DUGONG_STORED_STATE_H */
