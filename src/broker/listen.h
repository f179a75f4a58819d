/*
 * listen.h
 *		A background worker as a listener.
 */
#ifndef DUGONG_LISTEN_H
#define DUGONG_LISTEN_H

#include "postgres.h"

extern void listen_forget(void);
extern void listen_to(const char *channel);
extern bool listen_receive(void);

#endif							/* DUGONG_LISTEN_H */
