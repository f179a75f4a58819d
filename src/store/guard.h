/*
 * guard.h
 *		What keeps the log append-only and there.
 */
#ifndef DUGONG_GUARD_H
#define DUGONG_GUARD_H

extern void guard_init(void);

#endif							/* DUGONG_GUARD_H */
