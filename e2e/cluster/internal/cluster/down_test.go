package cluster

import (
	"bytes"
	"context"
	"os"
	"reflect"
	"strings"
	"testing"

	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/process"
)

func TestNothingIsDecidedWhereNothingIsLeft(t *testing.T) {
	plan, err := decide(remains{})
	if err != nil || !reflect.DeepEqual(plan, ending{}) {
		t.Errorf("got %+v, %v", plan, err)
	}
}

func TestOnlyLivingProcessesAreKilled(t *testing.T) {
	alive, dead := process.Identity{PID: 10}, process.Identity{PID: 11}
	plan, err := decide(remains{folder: true, link: "vlx1", nodes: []nodeRemains{
		{process: alive, alive: true, cgroup: "vlx1-demo-node-1"},
		{process: dead, cgroup: "vlx1-demo-node-2"},
	}})
	want := ending{
		kill: []process.Identity{alive}, link: "vlx1", folder: true,
		cgroups: []string{"vlx1-demo-node-1", "vlx1-demo-node-2"}, // A crash leaves these.
	}
	if err != nil || !reflect.DeepEqual(plan, want) {
		t.Errorf("got %+v, %v; want %+v", plan, err, want)
	}
}

func TestAFolderWithAMountInItIsNotRemoved(t *testing.T) {
	plan, err := decide(remains{folder: true, mounted: []string{"/state/clusters/demo/disk"}})
	if err == nil || !strings.Contains(err.Error(), "/state/clusters/demo/disk") || plan.folder {
		t.Errorf("got %+v, %v", plan, err)
	}
}

func TestDownOfAClusterThatIsNotThereDoesAndSaysNothing(t *testing.T) {
	state := layout.StateDir(t.TempDir())
	absent, err := state.Cluster("demo")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := Down(context.Background(), absent, &said); err != nil || said.Len() > 0 {
		t.Errorf("got %v, said %q", err, said.String())
	}
	if entries, err := os.ReadDir(string(state)); err != nil || len(entries) > 0 {
		t.Errorf("it made %v, %v", entries, err)
	}
}
