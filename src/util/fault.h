/*
 * fault.h
 *		Named points where a test can hold or fail a process.
 *
 * They exist only in a library that was built with FAULT_POINTS=1.  A process
 * that reaches a point waits while another session holds the point's advisory
 * lock: pg_advisory_lock(hashtext('name')).
 */
#ifndef DUGONG_FAULT_H
#define DUGONG_FAULT_H

#ifdef DUGONG_FAULT_POINTS
extern void fault_point(const char *name);
extern void fault_point_without_wait(const char *name);
#else
#define fault_point(name) ((void) 0)
#define fault_point_without_wait(name) ((void) 0)
#endif

#endif							/* DUGONG_FAULT_H */
