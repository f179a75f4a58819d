/*
 * erased_elsewhere.h
 *		Messages that tell of an erasure at their origin.
 */
#ifndef DUGONG_ERASED_ELSEWHERE_H
#define DUGONG_ERASED_ELSEWHERE_H

extern void erased_elsewhere_init(void);

#endif							/* DUGONG_ERASED_ELSEWHERE_H */
