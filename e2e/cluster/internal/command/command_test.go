package command

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOwnFlagsComeFirstAndTheRestIsKubectls(t *testing.T) {
	for line, want := range map[string]struct {
		name, state string
		rest        []string
	}{
		"get pods":                             {"demo", "", []string{"get", "pods"}},
		"--name test get pods":                 {"test", "", []string{"get", "pods"}},
		"--name=test --state /s get --name x":  {"test", "/s", []string{"get", "--name", "x"}},
		"logs --name=other":                    {"demo", "", []string{"logs", "--name=other"}},
		"-n kube-system get pods --name other": {"demo", "", []string{"-n", "kube-system", "get", "pods", "--name", "other"}},
	} {
		at := &where{name: "demo"}
		rest, err := ownFlags(at, strings.Fields(line))
		if err != nil || at.name != want.name || at.state != want.state || !slices.Equal(rest, want.rest) {
			t.Errorf("%q: got %+v, %q, %v", line, at, rest, err)
		}
	}
	if _, err := ownFlags(&where{}, []string{"--name"}); err == nil {
		t.Error("a flag without a value is accepted")
	}
}

func TestKubectlNeverFallsBackToAnotherCluster(t *testing.T) {
	ran := false
	root := newRoot(func([]string) { ran = true }, func(int) {})
	run := func(arguments ...string) error {
		root.SetArgs(append([]string{"kubectl", "--state", t.TempDir()}, arguments...))
		return root.Execute()
	}
	if err := run("get", "pods"); err == nil || ran || !strings.Contains(err.Error(), "cluster up") {
		t.Errorf("without a cluster: ran %v, %v", ran, err)
	}
	if err := run("--kubeconfig", "elsewhere", "get", "pods"); err != nil || !ran {
		t.Errorf("with an explicit kubeconfig: ran %v, %v", ran, err)
	}
}

func TestKubeconfigOfAnAbsentClusterIsAnErrorWithARemedy(t *testing.T) {
	root := newRoot(func([]string) {}, func(int) {})
	root.SetArgs([]string{"kubeconfig", "--name", "test", "--state", t.TempDir()})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "cluster up --name test") {
		t.Errorf("got %v", err)
	}
}

func TestImagesAreKeptInTheCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	if folder, err := imageFolder(); err != nil || folder != filepath.Join("/cache", "valerix", "images") {
		t.Errorf("got %s, %v", folder, err)
	}
}

func TestAClusterThatDoesNotSayWhereItsPodsAreHasThemAnywhere(t *testing.T) {
	command := networkPoliciesCommand()
	if err := command.ParseFlags([]string{"--machines", "10.66.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	pods, err := netip.ParsePrefix(command.Flags().Lookup("pods").Value.String())
	if err != nil || !pods.Contains(netip.MustParseAddr("10.66.128.7")) {
		t.Errorf("got %s, %v", pods, err)
	}
}
