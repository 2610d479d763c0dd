package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var quick = Backoff{Min: time.Millisecond, Max: 4 * time.Millisecond, Healthy: time.Hour}

func run(t *testing.T, children ...Child) (dir string, statuses func() []Status, stop func()) {
	t.Helper()
	dir = t.TempDir()
	supervisor := &Supervisor{Logs: dir, StatusFile: filepath.Join(dir, "children.json"), Backoff: quick}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); supervisor.Run(ctx, children, 2*time.Second) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return dir, func() (found []Status) {
		content, err := os.ReadFile(supervisor.StatusFile)
		if err == nil {
			err = json.Unmarshal(content, &found)
		}
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		return found
	}, stop
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never seen: %s", what)
		}
	}
}

func shell(name, script string) Child {
	return Child{Name: name, Command: []string{"/bin/sh", "-c", script}}
}

func TestACrashedChildIsStartedAgainAndItsEndIsTold(t *testing.T) {
	dir, statuses, _ := run(t, shell("crash", "echo hello; exit 3"))
	eventually(t, "three restarts with their exit code", func() bool {
		all := statuses()
		return len(all) == 1 && all[0].Restarts >= 3 && all[0].LastExit == "exit code 3"
	})
	content, err := os.ReadFile(filepath.Join(dir, "crash.log"))
	if err != nil || strings.Count(string(content), "hello\n") < 3 || !strings.Contains(string(content), "exit code 3") {
		t.Errorf("the log holds %q, %v", content, err)
	}
}

func TestAKilledChildIsStartedAgain(t *testing.T) {
	_, statuses, _ := run(t, shell("long", "exec sleep 60"))
	first := 0
	eventually(t, "a running child", func() bool {
		if all := statuses(); len(all) == 1 {
			first = all[0].PID
		}
		return first != 0
	})
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process", func() bool { all := statuses(); return all[0].PID != 0 && all[0].PID != first })
	if got := statuses()[0].LastExit; got != "signal 9 (killed)" {
		t.Errorf("last exit is %q", got)
	}
}

func TestAProgramThatDoesNotExistIsReported(t *testing.T) {
	_, statuses, _ := run(t, Child{Name: "absent", Command: []string{"/does/not/exist"}})
	eventually(t, "an error that names the path", func() bool {
		all := statuses()
		return len(all) == 1 && strings.Contains(all[0].LastExit, "/does/not/exist")
	})
}

func TestAChildWaitsForItsGate(t *testing.T) {
	var open atomic.Bool
	child := shell("gated", "exec sleep 60")
	child.Gate = func(context.Context) error {
		if open.Load() {
			return nil
		}
		return errors.New("not yet")
	}
	_, statuses, _ := run(t, child)
	eventually(t, "the reason", func() bool { all := statuses(); return len(all) == 1 && all[0].Waiting == "not yet" })
	if statuses()[0].PID != 0 {
		t.Error("it runs although its gate is closed")
	}
	open.Store(true)
	eventually(t, "a running child", func() bool { all := statuses(); return all[0].PID != 0 && all[0].Waiting == "" })
}

func TestChildrenAreStoppedLastFirst(t *testing.T) {
	folder := t.TempDir()
	order := filepath.Join(folder, "order")
	ready := func(name string) string { return filepath.Join(folder, "ready-"+name) }
	polite := func(name string) Child {
		trap := "trap 'echo " + name + " >> " + order + "; exit 0' TERM; : > " + ready(name)
		return shell(name, trap+"; while :; do sleep 0.01; done")
	}
	_, statuses, stop := run(t, polite("first"), polite("second"))
	eventually(t, "both running", func() bool {
		return len(statuses()) == 2 && !slices.ContainsFunc(statuses(), func(s Status) bool { return s.PID == 0 })
	})
	eventually(t, "both traps set", func() bool {
		_, first := os.Stat(ready("first"))
		_, second := os.Stat(ready("second"))
		return first == nil && second == nil
	})
	stop()
	if content, err := os.ReadFile(order); err != nil || string(content) != "second\nfirst\n" {
		t.Errorf("stopped as %q, %v", content, err)
	}
}

func TestBackoffDoublesUpToItsMaximumAndStartsOver(t *testing.T) {
	backoff := Backoff{Min: time.Second, Max: 5 * time.Second, Healthy: time.Minute}
	var delay time.Duration
	var got []time.Duration
	for range 5 {
		delay = backoff.Next(delay, time.Millisecond)
		got = append(got, delay/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 5, 5}; !slices.Equal(got, want) {
		t.Errorf("delays are %v, want %v", got, want)
	}
	if after := backoff.Next(delay, time.Minute); after != time.Second {
		t.Errorf("after a long life the delay is %v", after)
	}
}
