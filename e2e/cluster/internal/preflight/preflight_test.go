package preflight

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func complete() Facts {
	set := func(names ...string) map[string]bool {
		all := map[string]bool{}
		for _, name := range names {
			all[name] = true
		}
		return all
	}
	return Facts{
		Root:              true,
		Programs:          set("containerd", "ctr", "containerd-shim-runc-v2", "runc", "iptables", "iptables-restore", "nft", "buildah", "mmdebstrap", "cc"),
		CNIPlugins:        true,
		Namespaces:        set("ipc", "mnt", "net", "pid", "uts"),
		Filesystems:       set("overlay"),
		CgroupControllers: set("cpu", "cpuset", "memory", "pids"),
		BridgeFilter:      true,
	}
}

var imagePrograms = []string{"buildah", "cc", "mmdebstrap"}

func TestACompleteHostHasNoProblem(t *testing.T) {
	if problems := Examine(complete(), imagePrograms); len(problems) != 0 {
		t.Errorf("got %v", problems)
	}
}

func TestEachLackIsOneProblemWithARemedy(t *testing.T) {
	for name, check := range map[string]struct {
		change func(*Facts)
		want   string
		cure   Cure
	}{
		"not root": {func(f *Facts) { f.Root = false }, "root", Cure{}},
		"no runc": {func(f *Facts) { delete(f.Programs, "runc") }, "runc",
			Cure{Packages: []string{"runc"}}},
		"no plugins": {func(f *Facts) { f.CNIPlugins = false }, "CNI plugins",
			Cure{Packages: []string{"containernetworking-plugins"}}},
		"no compiler": {func(f *Facts) { delete(f.Programs, "cc") }, "cc",
			Cure{Packages: []string{"gcc", "libc6-dev"}}},
		"no overlay": {func(f *Facts) { delete(f.Filesystems, "overlay") }, "overlay file system",
			Cure{Modules: []string{"overlay"}}},
		"no bridge filter": {func(f *Facts) { f.BridgeFilter = false }, "packet filter for bridges",
			Cure{Modules: []string{"br_netfilter"}}},
		"no memory controller":          {func(f *Facts) { delete(f.CgroupControllers, "memory") }, "control group controller memory", Cure{}},
		"no user-visible pid namespace": {func(f *Facts) { delete(f.Namespaces, "pid") }, "pid namespaces", Cure{}},
		"no links":                      {func(f *Facts) { f.Links = errors.New("not supported") }, "veth links and bridges", Cure{Modules: []string{"veth"}}},
		"no rules":                      {func(f *Facts) { f.PacketFilter = errors.New("line 3") }, "packet filter rules of services", Cure{Modules: []string{"iptable_nat"}}},
	} {
		facts := complete()
		check.change(&facts)
		problems := Examine(facts, imagePrograms)
		if len(problems) != 1 || problems[0].Name != check.want || problems[0].Remedy == "" {
			t.Errorf("%s: got %+v", name, problems)
			continue
		}
		if cure := CureFor(problems); !slices.Equal(cure.Packages, check.cure.Packages) || !slices.Equal(cure.Modules, check.cure.Modules) {
			t.Errorf("%s: the cure is %+v", name, cure)
		}
	}
}

func TestProgramsForImagesMatterOnlyWhenImagesAreBuilt(t *testing.T) {
	facts := complete()
	delete(facts.Programs, "buildah")
	if problems := Examine(facts, nil); len(problems) != 0 {
		t.Errorf("got %v", problems)
	}
}

func TestPackagesAreNamedOnce(t *testing.T) {
	facts := complete()
	delete(facts.Programs, "containerd")
	delete(facts.Programs, "ctr")
	if cure := CureFor(Examine(facts, nil)); !reflect.DeepEqual(cure.Packages, []string{"containerd"}) {
		t.Errorf("got %v", cure.Packages)
	}
}

func TestTheErrorNamesEverythingAndTheWayOut(t *testing.T) {
	facts := complete()
	facts.Root = false
	delete(facts.Programs, "runc")
	text := Error(Examine(facts, nil)).Error()
	for _, part := range []string{"root", "sudo", "apt-get install runc", "preflight --install"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

func TestParseFilesystems(t *testing.T) {
	found := parseFilesystems("nodev\tsysfs\nnodev\toverlay\n\text4\n")
	if !found["overlay"] || !found["ext4"] || found["nodev"] {
		t.Errorf("got %v", found)
	}
}
