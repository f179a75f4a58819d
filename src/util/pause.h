/*
 * pause.h
 *		Waiting in a procedure.
 */
#ifndef DUGONG_PAUSE_H
#define DUGONG_PAUSE_H

#include "postgres.h"

extern void pause_for(long milliseconds);

#endif							/* DUGONG_PAUSE_H */
