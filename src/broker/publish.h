/*
 * publish.h
 *		What a transaction has appended, and its NOTIFY.
 */
#ifndef DUGONG_PUBLISH_H
#define DUGONG_PUBLISH_H

#include "postgres.h"

extern void publish_init(void);
extern bool publish_pending(void);

#endif							/* DUGONG_PUBLISH_H */
