/*
 * launcher.h
 *		Starts the workers of all databases when the server starts.
 */
#ifndef DUGONG_LAUNCHER_H
#define DUGONG_LAUNCHER_H

extern void launcher_init(void);

#endif							/* DUGONG_LAUNCHER_H */
