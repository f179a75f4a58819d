/*
 * pause.c
 *		Waiting in a procedure.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "util/pause.h"

/*
 * Waits, holding no snapshot of the catalogs, and takes in what others have
 * changed meanwhile.  It can be cancelled, and may end early.
 */
void
pause_for(long milliseconds)
{
	InvalidateCatalogSnapshot();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	AcceptInvalidationMessages();
}
