# The front door. Each target is one call of xtask (e2e/xtask), where the work and its messages are.
.DEFAULT_GOAL := help
.PHONY: help demo order load shop-race shop-fencing shop-scaling shop-local gameday campaign mutants kubeconfig down test check unit e2e bench generate docs images

# Where rustup and Go's own installers put their programs, for shells that do not look there.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin
ifeq ($(shell command -v cargo),)
$(error cargo was not found. Install Rust 1.94 or newer: https://rustup.rs)
endif
ifeq ($(shell command -v cc),)
$(error A C linker (cc) was not found. On Debian: apt-get install build-essential)
endif

# Checkouts share one folder of compiled dependencies, outside of them; xtask lets one checkout at a time build in
# it (e2e/xtask/src/workspace.rs). xtask itself is small and lives in the checkout.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/valerix/target

# The first time cargo tells how far it is; later there is nothing to tell.
FIRST := $(if $(wildcard target/xtask/debug/xtask),,yes)
XTASK := cargo run $(if $(FIRST),,--quiet) --locked --target-dir target/xtask --package

ITEM ?= ps5
QUANTITY ?= 1
SCENARIO ?= load

define HELP
make demo        bring up a cluster, install everything, show the three kinds at work, leave it running
make order       place one order in the demo's shop: make order ITEM=ps5 QUANTITY=1
make load        put load on the demo's shop: make load SCENARIO=spike RATE=20 LASTS=30
                 smoke, load, spike, soak, breaker, rate-limit; each ends with a verdict in words
make shop-race   fifty customers and one last piece; make shop-fencing: a stale holder of a lock is refused;
                 make shop-scaling: one replica of order, and of auth, beside three
make gameday     every experiment of examples/chaos on the demo's shop, while customers order, and the books at the end
make shop-local  the shop on this machine without Kubernetes, until Ctrl-C: make shop-local ONLY=order,payment or
                 WITHOUT=order, which you then start yourself
make kubeconfig  print the path of the demo's kubeconfig: export KUBECONFIG=$$(make -s kubeconfig)
make down        remove the clusters demo and test

make test        every check and test; what .ci/run calls
make check       the quick part: formatting, lints, generated files, licences, charts
make unit        unit and service tests, on a PostgreSQL, a Redis and an S3 server of their own
make e2e         end-to-end tests, on a cluster of their own; make e2e NODES=3: spread, drain and the loss of a node
make bench       measure the library and the proxies beside their peers: make bench SUITE=breaker QUICK=1 ROUNDS=9, each optional
make campaign    operator or shop under faults, many more than a test run tries: make campaign NAME=edits ROUNDS=10000 SEED=7
                 cut, stale, lost, deletion, edits, errors, specs, schedules; chaos-model, chaos-wire, chaos-scale; shop-calls,
                 shop-storm, shop-keys, shop-servers, shop-previous, shop-walk; scale: so many services on a cluster with fake nodes
make mutants     mistakes planted in the code one at a time, each of which a test must notice: make mutants NAME=chaos
                 ONLY=<mutant>; operator, chaos, backup, shop (e2e/mutants)
make generate    write every generated file: CRDs, examples, references
make docs        check the documentation and make its site, target/book/site
make images      build the images and print their references

The cluster is the context named by KUBE_CONTEXT (images are pushed to REGISTRY), else kind where a Docker engine
answers, else the project's own cluster of real Kubernetes components on this host (Linux, root).
endef

help:
	@:$(info $(HELP))

demo order load shop-local campaign mutants kubeconfig down test check unit e2e images generate docs:
	@:$(if $(FIRST),$(info Compiling xtask, the program behind this Makefile: once, about a minute))
	@$(XTASK) xtask -- $@ $(ARGUMENTS)

bench:
	@$(XTASK) valerix-bench -- $(ARGUMENTS)

load: ARGUMENTS = --scenario $(SCENARIO) $(if $(RATE),--rate $(RATE)) $(if $(LASTS),--lasts $(LASTS)) $(if $(URL),--url $(URL))
shop-race shop-fencing shop-scaling: shop-%:
	@$(XTASK) xtask -- load --scenario $* $(if $(LASTS),--lasts $(LASTS)) $(if $(URL),--url $(URL))

gameday:
	@$(XTASK) xtask -- load --scenario gameday $(if $(URL),--url $(URL))

e2e: ARGUMENTS = $(if $(NODES),--nodes $(NODES))
shop-local: ARGUMENTS = $(if $(ONLY),--only $(ONLY)) $(if $(WITHOUT),--without $(WITHOUT))

mutants: ARGUMENTS = --name '$(NAME)' $(if $(ONLY),--only '$(ONLY)')
campaign: ARGUMENTS = --name '$(NAME)' $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))
order: ARGUMENTS = --item $(ITEM) --quantity $(QUANTITY)
bench: ARGUMENTS = $(if $(SUITE),--suite $(SUITE)) $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds $(ROUNDS))
