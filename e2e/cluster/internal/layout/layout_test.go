package layout

import (
	"path/filepath"
	"testing"
)

func TestStateRootIsFlagThenEnvironmentThenDefault(t *testing.T) {
	check := func(flag, environment, want string) {
		t.Helper()
		t.Setenv("VALERIX_STATE", environment)
		if state, err := State(flag); err != nil || string(state) != want {
			t.Errorf("flag %q, environment %q: got %q, %v; want %q", flag, environment, state, err, want)
		}
	}
	check("", "", "/var/lib/valerix")
	check("", "/elsewhere", "/elsewhere")
	check("/flag", "/elsewhere", "/flag")
	if state, _ := State("relative"); !filepath.IsAbs(string(state)) {
		t.Errorf("a relative flag stays relative: %q", state)
	}
}

func TestNamesThatWouldLeaveTheFolderAreRefused(t *testing.T) {
	state := StateDir("/state")
	for _, name := range []string{"", "..", "a/b", "-a", "a-", "A", "1a", "a.b", "a-name-that-is-much-too-long"} {
		if _, err := state.Cluster(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	for _, name := range []string{"demo", "t", "e2e-1"} {
		if cluster, err := state.Cluster(name); err != nil || cluster.Dir() != "/state/clusters/"+name {
			t.Errorf("%q: %v, %v", name, cluster.Dir(), err)
		}
	}
}

func TestTheLockOutlivesTheCluster(t *testing.T) {
	cluster, _ := StateDir("/state").Cluster("demo")
	if relative, err := filepath.Rel(cluster.Dir(), cluster.Lock()); err != nil || filepath.IsLocal(relative) {
		t.Errorf("the lock %s lies inside %s, which `down` removes", cluster.Lock(), cluster.Dir())
	}
}

func TestCacheFollowsXDG(t *testing.T) {
	t.Setenv("HOME", "/home/x")
	t.Setenv("XDG_CACHE_HOME", "")
	if dir, _ := Cache(); dir != "/home/x/.cache/valerix" {
		t.Errorf("got %s", dir)
	}
	t.Setenv("XDG_CACHE_HOME", "/c")
	if dir, _ := Cache(); dir != "/c/valerix" {
		t.Errorf("got %s", dir)
	}
}
