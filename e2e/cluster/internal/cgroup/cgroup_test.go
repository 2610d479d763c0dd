package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseBothVersions(t *testing.T) {
	found, err := parse(strings.NewReader(`22 28 0:20 / /proc rw,relatime shared:13 - proc proc rw
31 30 0:26 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate
36 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:16 - cgroup cgroup rw,cpu,cpuacct
37 30 0:32 / /sys/fs/cgroup/systemd rw shared:17 - cgroup cgroup rw,xattr,name=systemd
`))
	want := []Hierarchy{
		{Path: "/sys/fs/cgroup/unified", Unified: true},
		{Path: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
		{Path: "/sys/fs/cgroup/systemd", Controllers: []string{"name=systemd"}},
	}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("got %+v, %v", found, err)
	}
}

// An ordinary folder stands in for a hierarchy; the difference is only who makes the files in it.
func hierarchy(t *testing.T) []Hierarchy {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{"cpuset.cpus": "0-3", "cpuset.mems": "0"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []Hierarchy{{Path: root, Controllers: []string{"cpuset"}}}
}

func TestTheFirstProcessIsMovedAndProcessorsAreInherited(t *testing.T) {
	all := hierarchy(t)
	system := filepath.Join(all[0].Path, "node", System)
	if err := os.MkdirAll(system, 0o755); err != nil { // The files that the kernel would make.
		t.Fatal(err)
	}
	for _, file := range []string{"node/cpuset.cpus", "node/cpuset.mems", "node/system/cpuset.cpus", "node/system/cpuset.mems", "node/system/cgroup.procs"} {
		if err := os.WriteFile(filepath.Join(all[0].Path, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Create(all, "node", 42); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cpuset.cpus": "0-3", "cpuset.mems": "0", "cgroup.procs": "42"} {
		if content, err := os.ReadFile(filepath.Join(system, name)); err != nil || string(content) != want {
			t.Errorf("%s holds %q, %v", name, content, err)
		}
	}
}

func TestRemoveTakesNestedGroupsAndIsIdempotent(t *testing.T) {
	all := hierarchy(t)
	if err := os.MkdirAll(filepath.Join(all[0].Path, "node/kubepods/burstable/pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !Exists(all, "node") {
		t.Error("the group is not seen")
	}
	for range 2 {
		if err := Remove(all, "node", time.Second); err != nil {
			t.Error(err)
		}
	}
	if Exists(all, "node") {
		t.Error("the group is still there")
	}
}

func TestRemoveGivesUpOnAGroupInUse(t *testing.T) {
	all := hierarchy(t)
	busy := filepath.Join(all[0].Path, "node", "busy")
	if err := os.MkdirAll(busy, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(busy, "in-use"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Remove(all, "node", 50*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), busy) {
		t.Errorf("got %v, want an error that names %s", err, busy)
	}
}
