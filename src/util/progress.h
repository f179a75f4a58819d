/*
 * progress.h
 *		How far a transaction has come, for others to see.
 */
#ifndef DUGONG_PROGRESS_H
#define DUGONG_PROGRESS_H

#include "postgres.h"

extern void show_progress(int64 done);

#endif							/* DUGONG_PROGRESS_H */
