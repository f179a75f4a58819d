/*
 * erase.h
 *		Erasing aggregates and payloads.
 */
#ifndef DUGONG_ERASE_H
#define DUGONG_ERASE_H

extern void erase_init(void);

#endif							/* DUGONG_ERASE_H */
