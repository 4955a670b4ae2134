# hgauto: build, tests, installation.  `make help` lists the targets.
#
# Settings come from the command line or from config.mk (not committed):
# CC CFLAGS LDFLAGS PREFIX DESTDIR MODE BUILD V WERROR READLINE ZLIB DEPS TESTS.

VERSION := 0.1.0
-include config.mk

MODE     ?= release
BUILD    ?= build
PREFIX   ?= /usr/local
READLINE ?= auto
ZLIB     ?= auto
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
O        := $(BUILD)/$(MODE)
Q        := $(if $(V),,@)
SAY      := $(if $(V),@:,@printf '  %-7s %s\n')

ifeq ($(MODE),fuzz)
CC := clang
endif
ifeq ($(origin CC),default)
CC := gcc
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

# ---- what to build ---------------------------------------------------------

core_src  := $(sort $(wildcard core/base/*.c core/net/*.c core/state/*.c \
	       core/aws/*.c core/ssh/*.c core/winrm/*.c core/box/*.c))
bind_src  := $(sort $(wildcard bindings/*.c))
guest_src := $(sort $(wildcard core/box/guest/*.c))
unit_src  := $(sort $(wildcard tests/unit/*.c))
vec_src   := $(sort $(wildcard tests/vectors/*.c))
fuzz_src  := $(filter-out tests/fuzz/replay.c,$(sort $(wildcard tests/fuzz/*.c)))
serv_src  := $(sort $(wildcard tests/servers/*.c))
bench_src := $(sort $(wildcard tests/bench/*.c))
scripts   := $(sort $(shell find scripts -type f \( -name '*.lua' -o \
	       -name '*.sh' -o -name '*.py' -o -name '*.ps1' -o \
	       -path '*/debian/*' \) 2>/dev/null))

# Objects of tests stay: a changed library then only links them again.
.PRECIOUS: $(O)/tests/%.o

core_obj  := $(core_src:%.c=$(O)/%.o)
bind_obj  := $(bind_src:%.c=$(O)/%.o)

# ---- goals that need no compiler -------------------------------------------

nobuild := help clean distclean demo check asan lint fuzz coverage bench \
	   torture gcstress format install-deps deps-build deps-check \
	   deps-lint deps-demo check-slow repro
goals := $(if $(MAKECMDGOALS),$(MAKECMDGOALS),all)
ifneq ($(filter-out $(nobuild),$(goals)),)
-include $(O)/flags.mk
-include $(BUILD)/vendor/vendor.mk
endif

# Found once per compiler and mode.
$(O)/flags.mk: core/tools/flags.sh
	@mkdir -p $(@D)
	@CC='$(CC)' MODE='$(MODE)' READLINE='$(READLINE)' \
		ZLIB='$(ZLIB)' sh $< > $@.tmp
	@mv $@.tmp $@

# Third-party source: fetched, verified, patched; see vendor/README.md.
$(BUILD)/vendor/vendor.mk: vendor/manifest vendor/vendor.sh \
		$(wildcard vendor/edits/*/*)
	@sh vendor/vendor.sh $(BUILD)/vendor

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wformat=2 -Wcast-qual \
	-Wmissing-prototypes -Wstrict-prototypes -Wswitch-enum \
	$(if $(WERROR),-Werror)
CPPFLAGS_ALL := -D_GNU_SOURCE -DHGA_VERSION='"$(VERSION)"' \
	-DHGA_MODE='"$(MODE)"' $(CPPFLAGS)
CFLAGS_ALL = -std=c11 $(WARN) $(MODE_CFLAGS) $(HARDEN_CFLAGS) \
	-ffile-prefix-map=$(CURDIR)/= -MMD -MP $(CFLAGS)
LDFLAGS_ALL = $(MODE_LDFLAGS) $(HARDEN_LDFLAGS) $(LDFLAGS)
CORE_LIBS := -lcurl -lmicrohttpd -lsqlite3 -lexpat $(ZLIB_LIBS) -lssl -lcrypto \
	-lpthread -lm
LUA_INC   ?= -I/usr/include/lua5.4
LUA_LIBS  ?= -llua5.4
ALL_LIBS   = $(CORE_LIBS) $(LUA_LIBS) $(READLINE_LIBS) -lm

# Changed compiler or flags rebuild everything.
stamp := $(O)/flags.stamp
stamp_text = $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(READLINE) $(SSH2_CPPFLAGS) $(SSH2_VERSION_DEF)
$(stamp): FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(stamp_text))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(stamp_text))' > $@
.PHONY: FORCE
FORCE:

# ---- objects ---------------------------------------------------------------

# Layering by include path: core sees no Lua, base and friends no other area.
$(O)/core/ssh/%.o: core/ssh/%.c $(stamp)
	$(SAY) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -Icore $(SSH2_CPPFLAGS) $(CFLAGS_ALL) \
		-include core/tools/banned.h -c -o $@ $<

# The only file that knows whether zlib is there.
zlib_flags = $(if $(filter %/base/gzip.o,$@),$(ZLIB_CPPFLAGS))
$(O)/core/base/gzip.o: $(O)/flags.mk

$(O)/core/%.o: core/%.c $(stamp)
	$(SAY) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(zlib_flags) -Icore $(CFLAGS_ALL) \
		-include core/tools/banned.h -c -o $@ $<

$(O)/bindings/%.o: bindings/%.c $(stamp)
	$(SAY) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -Icore -iquote bindings $(LUA_INC) \
		$(READLINE_CPPFLAGS) $(SSH2_VERSION_DEF) $(CFLAGS_ALL) \
		-include core/tools/banned.h -c -o $@ $<

$(O)/tests/%.o: tests/%.c $(stamp)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -Icore -Itests -Itests/unit -iquote bindings \
		$(LUA_INC) $(SSH2_CPPFLAGS) $(CFLAGS_ALL) $(FUZZ_OBJ_CFLAGS) \
		-c -o $@ $<

# Third-party code is compiled without our warnings.
SSH2_OBJ := $(patsubst $(SSH2_SRC)/%.c,$(O)/libssh2/%.o,$(SSH2_FILES))
$(O)/libssh2/%.o: $(SSH2_SRC)/%.c $(stamp) vendor/libssh2_config.h
	@mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -DHAVE_CONFIG_H -DLIBSSH2_OPENSSL \
		-Ivendor -I$(SSH2_SRC)/../include -I$(SSH2_SRC) -std=gnu11 -w \
		$(MODE_CFLAGS) $(HARDEN_CFLAGS) \
		-ffile-prefix-map=$(CURDIR)/= -c -o $@ $<
$(O)/libssh2.a: $(SSH2_OBJ)
	$(SAY) AR $@
	$(Q)rm -f $@ && ar rcD $@ $^

$(O)/core.a: $(core_obj)
	$(SAY) AR $@
	$(Q)rm -f $@ && ar rcD $@ $^

# ---- programs --------------------------------------------------------------

SSH2_LINK = $(O)/libssh2.a -Wl,--exclude-libs,libssh2.a

# The guest helper is static: it runs inside foreign root file systems.
$(O)/hgauto-box: $(guest_src) $(wildcard core/box/*.h core/box/guest/*.h) \
		$(stamp)
	$(SAY) CC $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -Icore -std=c11 $(WARN) -O2 -g \
		$(HARDEN_CFLAGS) -ffile-prefix-map=$(CURDIR)/= -static \
		-Wl,-z,relro,-z,now,-z,noexecstack -o $@ $(guest_src)
	$(Q)strip -p $@

$(O)/mkmodel: $(O)/core/tools/mkmodel.o $(O)/core.a
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(O)/core.a $(CORE_LIBS)

$(O)/models.img: $(O)/mkmodel core/aws/services.list $(BUILD)/vendor/vendor.mk
	$(SAY) MODEL $@
	$(Q)$(O)/mkmodel $@ $(MODELS_DIR) core/aws/services.list

embed_files := $(scripts) $(O)/models.img $(O)/hgauto-box
$(O)/embed.list: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(embed_files) | cmp -s - $@ || \
		printf '%s\n' $(embed_files) > $@
$(O)/embed.S: core/tools/embed.sh $(O)/embed.list $(embed_files)
	$(SAY) EMBED $@
	$(Q)sh core/tools/embed.sh $(O)/embed.list > $@.tmp && mv $@.tmp $@
$(O)/embed.o: $(O)/embed.S $(O)/luac.stamp
	$(Q)$(CC) -c -o $@ $<

# Every embedded script must parse; one file per run (Lua 5.4.4's luac).
LUAC ?= luac5.4
$(O)/luac.stamp: $(filter %.lua,$(scripts))
	$(Q)if command -v $(LUAC) >/dev/null; then \
		for f in $?; do $(LUAC) -p $$f || exit 1; done; fi
	@touch $@

$(O)/hgauto: $(bind_obj) $(O)/core.a $(O)/libssh2.a $(O)/embed.o
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(bind_obj) $(O)/embed.o $(O)/core.a \
		$(SSH2_LINK) $(ALL_LIBS)

.PHONY: all
all: $(O)/hgauto
	@if [ "$(MODE)" = release ]; then ln -sfn $(O)/hgauto hgauto; fi

# ---- tests -----------------------------------------------------------------

test_main := $(filter-out $(O)/bindings/main.o,$(bind_obj))
unit_bin  := $(unit_src:tests/unit/%.c=$(O)/unit/%)
vec_bin   := $(vec_src:tests/vectors/%.c=$(O)/vectors/%)
fuzz_bin  := $(fuzz_src:tests/fuzz/%.c=$(O)/fuzz/%)
serv_bin  := $(serv_src:tests/servers/%.c=$(O)/servers/%)
# Preloaded into programs under test; never under a sanitizer.
failio    := $(O)/servers/failio.so
bench_bin := $(bench_src:tests/bench/%.c=$(O)/bench/%)

# Programs named b_* test the bindings and are linked with them.
$(O)/unit/b_%: $(O)/tests/unit/b_%.o $(test_main) $(O)/core.a $(O)/libssh2.a \
		$(O)/embed.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(test_main) $(O)/embed.o \
		$(O)/core.a $(SSH2_LINK) $(ALL_LIBS)
$(O)/unit/%: $(O)/tests/unit/%.o $(O)/core.a $(O)/libssh2.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(O)/core.a $(SSH2_LINK) $(CORE_LIBS)
$(O)/vectors/%: $(O)/tests/vectors/%.o $(O)/core.a $(O)/libssh2.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(O)/core.a $(SSH2_LINK) $(CORE_LIBS)
$(O)/servers/%: $(O)/tests/servers/%.o $(O)/core.a $(O)/libssh2.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(O)/core.a $(SSH2_LINK) $(CORE_LIBS)
$(failio): tests/torture/failio.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O1 -Wall -Wextra -Werror -fPIC -shared -o $@ $< -ldl
$(O)/bench/%: $(O)/tests/bench/%.o $(O)/core.a $(O)/libssh2.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(O)/core.a $(SSH2_LINK) $(CORE_LIBS)
# With libFuzzer (MODE=fuzz) its main; else one that replays the seeds.
fuzz_main := $(if $(filter fuzz,$(MODE)),,$(O)/tests/fuzz/replay.o)
$(O)/fuzz/%: $(O)/tests/fuzz/%.o $(fuzz_main) $(O)/core.a $(O)/libssh2.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) $(FUZZ_LDFLAGS) -o $@ $< $(fuzz_main) \
		$(O)/core.a $(SSH2_LINK) $(CORE_LIBS)

.PHONY: tests-build unit/% fuzz-build
tests-build: $(O)/hgauto $(unit_bin) $(vec_bin) $(fuzz_bin) $(serv_bin) $(failio)
	@:
fuzz-build: $(fuzz_bin)
unit/%: $(O)/unit/%
	$<

# ---- targets of several steps: each is a make of its own -------------------

SUB := $(MAKE) --no-print-directory
DEPS ?= yes
deps = $(if $(filter no,$(DEPS)),@:,@sh vendor/deps.sh)

.PHONY: deps-build deps-check deps-lint deps-demo
deps-build deps-check deps-lint deps-demo: deps-%:
	$(deps) $*

.PHONY: check check-built check-slow asan torture torture-tasks torture-ledger \
	torture-ci gcstress
check: ## install what tests need, build, run the suite (TESTS=GLOB narrows)
	$(deps) build check
	@$(SUB) -j$(JOBS) all tests-build
	@$(SUB) check-built
check-built:
	@MODE=$(MODE) BUILD=$(BUILD) TESTS='$(TESTS)' sh tests/tools/check.sh
check-slow: ## the long tests too (real builds, every kill point)
	$(deps) build check demo
	@$(SUB) -j$(JOBS) all tests-build
	@MODE=$(MODE) BUILD=$(BUILD) TESTS='$(TESTS)' SLOW=1 sh tests/tools/check.sh
asan: ## the suite under AddressSanitizer and UBSan
	$(deps) build check
	@$(SUB) MODE=asan -j$(JOBS) all tests-build
	@$(SUB) MODE=asan check-built
# T=kind,...: whose kinds these are; without T all.
comma := ,
empty :=
by_commas = $(subst $(empty) $(empty),$(comma),$(strip $(1)))
t_words := $(subst $(comma), ,$(T))
ledger_kinds := power syscall share living damage deadline soak
t_ledger := $(filter $(ledger_kinds),$(t_words))
t_tasks := $(filter-out oom $(ledger_kinds),$(t_words))
torture: ## every allocation fails once; tasks killed at every request; the ledger and the disk (T=oom,kill,power,... as below)
	$(deps) build check
	@$(if $(if $(T),$(filter oom,$(t_words)),all),$(SUB) MODE=asan -j$(JOBS) all && \
		sh tests/torture/run.sh $(BUILD)/asan/hgauto)
	@$(if $(if $(T),$(t_tasks),all),$(SUB) torture-tasks T='$(call by_commas,$(t_tasks))')
	@$(if $(if $(T),$(t_ledger),all),$(SUB) torture-ledger T='$(call by_commas,$(t_ledger))')
ledger := HGAUTO=$(abspath $(O)/hgauto) SEED='$(SEED)' \
	sh tests/tools/run-one.sh tests/torture/ledger.lua
torture-ledger: ## the ledger and power loss, full disks, other processes, damage (T= SEED=)
	$(deps) build check
	@$(SUB) -j$(JOBS) all tests-build
	@$(if $(if $(T),$(filter damage,$(t_words)),all),$(SUB) MODE=asan \
		-j$(JOBS) $(BUILD)/asan/servers/ledger_damage)
	@T='$(T)' LEDGER_DAMAGE=$(BUILD)/asan/servers/ledger_damage $(ledger)
sweep := HGAUTO=$(abspath $(O)/hgauto) SEED='$(SEED)' JOBS='$(JOBS)' OUT='$(OUT)' \
	sh tests/tools/run-one.sh tests/torture/kill.lua
torture-tasks: ## tasks killed, interrupted, lied to at each request (T= TASKS= FAULTS= MOMENTS= POINTS= STRIDE= SEED= JOBS= OUT=)
	$(deps) build check
	@$(SUB) -j$(JOBS) all
	@T='$(T)' TASKS='$(TASKS)' POINTS='$(POINTS)' FAULTS='$(FAULTS)' \
		MOMENTS='$(MOMENTS)' STRIDE='$(STRIDE)' $(sweep)
torture-ci: ## a few minutes of that: each kind, on few tasks and points (SEED= JOBS= OUT=)
	$(deps) build check
	@$(SUB) -j$(JOBS) all
	@CI=1 $(sweep)
	@$(SUB) -j$(JOBS) tests-build
	@CI=1 $(ledger)
gcstress: ## Lua tests with a full collection at each wait
	$(deps) build check
	@$(SUB) -j$(JOBS) all tests-build
	@HGAUTO_GCSTRESS=1 TESTS='tests/lua/*' MODE=$(MODE) BUILD=$(BUILD) \
		sh tests/tools/check.sh

.PHONY: lint format fuzz coverage bench demo repro
lint: ## compilers' analysers, layers, luacheck, shellcheck; silent when clean
	$(deps) build lint
	@BUILD=$(BUILD) sh tests/tools/lint.sh
format: ## clang-format all C files in place
	@git ls-files -co --exclude-standard '*.c' '*.h' | \
		grep -v '^vendor/' | xargs clang-format -i
SECS ?= 60
fuzz: ## SECS=60 seconds of libFuzzer per target (TARGETS="xml json")
	$(deps) build lint
	@$(SUB) MODE=fuzz -j$(JOBS) fuzz-build
	@BUILD=$(BUILD) SECS=$(SECS) TARGETS='$(TARGETS)' sh tests/tools/fuzz.sh
coverage: ## line coverage of core by the suite
	$(deps) build check
	@$(SUB) MODE=cov -j$(JOBS) all tests-build
	-@$(SUB) MODE=cov check-built
	@BUILD=$(BUILD) sh tests/tools/coverage.sh
bench_goals := $(patsubst tests/bench/%.sh,bench-%,$(wildcard tests/bench/*.sh))
.PHONY: $(bench_goals)
bench: ## ratios against peers, each in one run (bench-aws, bench-ssh, ...)
	$(deps) build check
	@$(SUB) -j$(JOBS) all bench-build
	@rc=0; for b in tests/bench/*.sh; do \
		MODE=$(MODE) BUILD=$(BUILD) sh $$b || rc=1; done; exit $$rc
bench-build: $(O)/hgauto $(bench_bin) $(serv_bin)
$(bench_goals): bench-%: tests/bench/%.sh
	@$(SUB) -j$(JOBS) all bench-build
	@MODE=$(MODE) BUILD=$(BUILD) sh $<
demo: ## build Mercurial's real source on a local machine; artifacts in dist/
	$(deps) build demo
	@$(SUB) -j$(JOBS) all
	@HGAUTO=$(BUILD)/release/hgauto sh tests/tools/demo.sh
repro: ## two builds in different directories must be equal
	@sh tests/tools/repro.sh

# ---- installation ----------------------------------------------------------

.PHONY: install uninstall
doc_dir = $(DESTDIR)$(PREFIX)/share/doc/hgauto
install: all ## install below PREFIX (DESTDIR honoured); needs no network
	install -d $(DESTDIR)$(PREFIX)/bin $(doc_dir)
	install -m 755 $(O)/hgauto $(DESTDIR)$(PREFIX)/bin/hgauto
	install -m 644 README.md NEWS LICENSE $(doc_dir)
uninstall: ## remove exactly what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/hgauto $(doc_dir)/README.md \
		$(doc_dir)/NEWS $(doc_dir)/LICENSE
	-rmdir $(doc_dir)

.PHONY: clean distclean help
clean: ## remove built files, keep fetched sources
	rm -rf $(BUILD)/release $(BUILD)/debug $(BUILD)/asan $(BUILD)/fuzz \
		$(BUILD)/cov $(BUILD)/torture hgauto
distclean: ## remove everything that git does not track here
	rm -rf $(BUILD) hgauto dist
help: ## this list
	@echo 'usage: make [target] [MODE=release|debug|asan|torture|fuzz|cov] [V=1] [WERROR=1]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | \
		expand -t 16

-include $(shell find $(O) -name '*.d' 2>/dev/null)
