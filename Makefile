EXTENSION = dugong
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" dugong.control)

MODULE_big = dugong
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
HDRS = $(wildcard src/*.h src/*/*.h)

# What CREATE EXTENSION runs, in this order
SQL_PARTS = \
	header.sql \
	store/types.sql \
	store/aggregate_types.sql \
	store/log.sql \
	store/tenants.sql \
	store/view.sql \
	store/append.sql \
	store/read.sql \
	store/message.sql \
	store/row_event.sql \
	store/tags.sql \
	store/guard.sql \
	aggregate/registry.sql \
	aggregate/build.sql \
	aggregate/snapshots.sql \
	broker/publish.sql \
	projection/projections.sql \
	projection/proof.sql \
	projection/subscriptions.sql \
	projection/erasure.sql \
	projection/isolation.sql \
	observe/status.sql \
	observe/tenant_status.sql \
	import/import.sql \
	bank_account/fold.sql \
	bank_account/commands.sql \
	bank_account/query_model.sql \
	footer.sql

# Versions that were released, as they were, and the ways from one to the next
DATA_built = $(EXTENSION)--$(EXTVERSION).sql
DATA = $(filter-out %/$(DATA_built),$(sort $(wildcard src/sql/released/*.sql src/sql/upgrade/*.sql)))

# A build with fault points has its own isolation tests
ISOLATION_DIR = $(if $(FAULT_POINTS),test/fault,test/isolation)

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=$(EXTENSION)
ISOLATION = $(patsubst $(ISOLATION_DIR)/specs/%.spec,%,$(sort $(wildcard $(ISOLATION_DIR)/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/$(ISOLATION_DIR) --load-extension=$(EXTENSION)

# The TAP tests run initdb, which refuses root
ifneq ($(shell id -u),0)
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))
TAP_TESTS = $(if $(PROVE_TESTS),1)
endif

PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter
# The server's flags and headers are made for its own compiler
PG_CFLAGS += $(if $(findstring clang,$(CC)),-Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes)

ifdef WERROR
PG_CFLAGS += -Werror
endif
ifdef FAULT_POINTS
PG_CPPFLAGS += -DDUGONG_FAULT_POINTS
endif
ifdef COVERAGE
PG_CFLAGS += --coverage
SHLIB_LINK += --coverage
endif

EXTRA_CLEAN = $(EXTENSION)-*.zip $(wildcard $(addsuffix /*.gc??,src src/*))

# "make test" and "make demo" install what they need, so PGXS may still be missing
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
# A specification says itself when a projection runs; no worker gets in between
pg_isolation_regress_installcheck := export PGOPTIONS='-c dugong.max_workers=0' && \
	$(pg_isolation_regress_installcheck)
else
all install installcheck uninstall clean:
	$(error $(PG_CONFIG) finds no PGXS: install the server's development package, or set PG_CONFIG)
endif

$(OBJS) $(OBJS:.o=.bc): $(HDRS)

$(DATA_built): $(addprefix src/sql/,$(SQL_PARTS)) dugong.control
	cat $(filter %.sql,$^) > $@

.PHONY: test test-long test-matrix lint demo bench bench-full format dist

# See test/README.md
test:
	@test/harness/test.sh

test-long:
	@test/harness/test.sh long

test-matrix:
	@test/harness/matrix.sh

# What another compiler and static analysis say; see .clang-tidy
lint:
	@test/harness/lint.sh

demo:
	@examples/demo.sh

# See bench/README.md
bench:
	@bench/bench.sh short

bench-full:
	@bench/bench.sh full

format:
	clang-format -i $(OBJS:.o=.c) $(HDRS)

dist:
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(EXTENSION)-$(EXTVERSION).zip HEAD
