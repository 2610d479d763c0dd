package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"valerix.io/cluster/internal/layout"
)

func TestChooseIndex(t *testing.T) {
	taken := map[int]string{1: "test", 4: "link vlx4"}
	for name, check := range map[string]struct {
		known, asked, want int
		wantError          string
	}{
		"a new cluster":                          {want: 2},
		"a new cluster with a wish":              {asked: 7, want: 7},
		"a cluster that was there before":        {known: 3, want: 3},
		"it stays what it is":                    {known: 3, asked: 3, want: 3},
		"a wish that somebody has":               {asked: 4, wantError: "link vlx4"},
		"somebody took the index while it slept": {known: 1, wantError: "test"},
	} {
		got, err := chooseIndex(check.known, check.asked, taken)
		if got != check.want || (err == nil) != (check.wantError == "") {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, check.want)
		}
		if err != nil && !strings.Contains(err.Error(), check.wantError) {
			t.Errorf("%s: %v does not name %s", name, err, check.wantError)
		}
	}
}

func TestAClusterIsNotMoved(t *testing.T) {
	cluster, _ := layout.StateDir(t.TempDir()).Cluster("demo")
	if err := keepsIndex(UpOptions{Cluster: cluster, Index: 9}); err != nil {
		t.Errorf("a new cluster may not choose: %v", err)
	}
	if err := writeJSON(cluster.Record(), record{Index: 3}); err != nil {
		t.Fatal(err)
	}
	for asked, moves := range map[int]bool{0: false, 3: false, 9: true} {
		if err := keepsIndex(UpOptions{Cluster: cluster, Index: asked}); (err != nil) != moves {
			t.Errorf("asked for %d: %v", asked, err)
		}
	}
}

func TestNodesAreAddedAndNeverTakenAway(t *testing.T) {
	for name, check := range map[string]struct {
		known, asked, want int
		wantError          string
	}{
		"a new cluster":                   {want: 1},
		"a new cluster with a wish":       {asked: 3, want: 3},
		"a cluster that was there before": {known: 2, want: 2},
		"a cluster of an older program":   {known: 0, asked: 2, want: 2},
		"one more":                        {known: 2, asked: 3, want: 3},
		"one less":                        {known: 2, asked: 1, wantError: "cluster down --name demo"},
		"more than there are zones":       {asked: 4, wantError: "1 to 3"},
		"fewer than none":                 {asked: -1, wantError: "1 to 3"},
	} {
		got, err := chooseNodes("demo", check.known, check.asked)
		if got != check.want || (err == nil) != (check.wantError == "") {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, check.want)
		}
		if err != nil && !strings.Contains(err.Error(), check.wantError) {
			t.Errorf("%s: %v does not name %s", name, err, check.wantError)
		}
	}
}

func TestFakeNodesAreAddedToAClusterThatHasKwok(t *testing.T) {
	for name, check := range map[string]struct {
		known, asked, want int
		controlRuns        bool
		wantError          string
	}{
		"none":                            {controlRuns: true},
		"a new cluster":                   {asked: 30, want: 30},
		"a cluster that was there before": {known: 30, want: 30, controlRuns: true},
		"as many again":                   {known: 30, asked: 30, want: 30, controlRuns: true},
		"more":                            {known: 30, asked: 40, want: 40, controlRuns: true},
		"fewer":                           {known: 30, asked: 20, wantError: "cluster down --name demo"},
		"one that runs without kwok":      {asked: 30, controlRuns: true, wantError: "cluster down --name demo"},
		"one whose first node is lost":    {asked: 30, want: 30},
		"more than were ever tried":       {asked: 1001, wantError: "up to 1000"},
		"fewer than none":                 {asked: -1, wantError: "up to 1000"},
	} {
		got, err := chooseFakeNodes("demo", check.known, check.asked, check.controlRuns)
		if got != check.want || (err == nil) != (check.wantError == "") {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, check.want)
		}
		if err != nil && !strings.Contains(err.Error(), check.wantError) {
			t.Errorf("%s: %v does not name %s", name, err, check.wantError)
		}
	}
}

func TestKwokIsKeptWithTheClusterThatIsNotRefused(t *testing.T) {
	state := layout.StateDir(t.TempDir())
	cluster, _ := state.Cluster("demo")
	other, _ := state.Cluster("test")
	if err := writeJSON(other.Record(), record{Index: 2}); err != nil {
		t.Fatal(err)
	}
	options := UpOptions{State: state, Cluster: cluster, Index: 2, FakeNodes: 3}
	refused := func(by string) {
		t.Helper()
		if _, err := recordFor(options, make([]member, 1)); err == nil || !strings.Contains(err.Error(), by) {
			t.Errorf("got %v, not %s", err, by)
		}
		if exists(cluster.Dir()) {
			t.Errorf("refused for %s, and there is a folder", by)
		}
	}
	refused("--kwok")
	options.Kwok = t.TempDir()
	for _, name := range []string{"kwok", "stages.yaml"} {
		if err := os.WriteFile(filepath.Join(options.Kwok, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused("taken by test")
	if err := keepKwok(options); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{cluster.Kwok(): "kwok", cluster.Stages(): "stages.yaml"} {
		if content, err := os.ReadFile(path); err != nil || string(content) != want {
			t.Errorf("%s has %q, %v", path, content, err)
		}
	}
	if err := keepKwok(UpOptions{Cluster: cluster}); err != nil || !exists(cluster.Kwok()) {
		t.Errorf("a cluster that has kwok: %v", err)
	}
}

func TestIndicesAreThoseOfOtherClusters(t *testing.T) {
	state := layout.StateDir(t.TempDir())
	for name, index := range map[string]int{"demo": 1, "test": 2} {
		cluster, err := state.Cluster(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(cluster.Record(), record{Index: index}); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := indices(state, "demo")
	if err != nil || len(taken) != 1 || taken[2] != "test" {
		t.Errorf("got %v, %v", taken, err)
	}
}

func TestRecordsArePrivate(t *testing.T) {
	cluster, _ := layout.StateDir(t.TempDir()).Cluster("demo")
	if err := writeJSON(cluster.Record(), record{Index: 1}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(cluster.Record())
	if err != nil || file.Mode().Perm() != 0o600 {
		t.Errorf("the record has mode %v, %v", file.Mode(), err)
	}
	folder, err := os.Stat(cluster.Dir())
	if err != nil || folder.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", folder.Mode(), err)
	}
}

func TestAnUnknownImageIsRefusedBeforeAnythingStarts(t *testing.T) {
	if _, err := recipesOf([]string{"base", "mysql"}); err == nil || !strings.Contains(err.Error(), "mysql") {
		t.Errorf("got %v", err)
	}
	recipes, err := recipesOf([]string{"pause", "base", "base"})
	if err != nil || len(recipes) != 2 {
		t.Errorf("got %d recipes, %v", len(recipes), err)
	}
}

func TestTheCauseOfAnEndIsTold(t *testing.T) {
	slow, cancel := context.WithTimeoutCause(context.Background(), time.Nanosecond, errors.New("not ready after 5m"))
	defer cancel()
	<-slow.Done()
	if err := cause(slow, errors.New("DNS")); !strings.Contains(err.Error(), "not ready after 5m") || !strings.Contains(err.Error(), "DNS") {
		t.Errorf("a timeout gives %v", err)
	}
	interrupted, stop := context.WithCancel(context.Background())
	stop()
	if err := cause(interrupted, errors.New("DNS")); !strings.HasPrefix(err.Error(), "interrupted") {
		t.Errorf("an interruption gives %v", err)
	}
	if err := cause(context.Background(), errors.New("DNS")); err.Error() != "DNS" {
		t.Errorf("an ordinary error gives %v", err)
	}
}

func TestCtrNamesWhatItImported(t *testing.T) {
	const output = "unpacking docker.io/library/debian:bookworm-slim (sha256:0a1b)...done\nunpacking x:1 (sha256:2)...done\n"
	found := imported.FindAllStringSubmatch(output, -1)
	if len(found) != 2 || found[0][1] != "docker.io/library/debian:bookworm-slim" || found[1][1] != "x:1" {
		t.Errorf("got %q", found)
	}
}
