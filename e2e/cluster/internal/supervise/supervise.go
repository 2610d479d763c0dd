// Package supervise keeps a set of child processes running: each is started when its gate opens, started again with
// growing delays when it ends, and logged to a file of its own.
//
// The supervisor is the first process of a node, so it also reaps the orphans that the containers' shims leave.
package supervise

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Child is a process to keep running.
type Child struct {
	Name    string
	Command []string
	Env     []string
	// Gate is asked before every start until it returns nil. A child whose needs are met does not begin its life
	// with a crash, which is what makes a restart count worth reading.
	Gate func(context.Context) error
}

// Status is what is known about a child.
type Status struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid,omitempty"` // Within the node; absent while it does not run.
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts"`
	LastExit string    `json:"lastExit,omitempty"`
	Waiting  string    `json:"waiting,omitempty"` // Why its gate is closed.
}

// Backoff says how long to wait before a restart: it doubles from Min to Max and starts over after a life longer
// than Healthy.
type Backoff struct{ Min, Max, Healthy time.Duration }

// DefaultBackoff restarts a crashed component at once and a hopeless one every ten seconds.
var DefaultBackoff = Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second, Healthy: 10 * time.Second}

// Next returns the delay that follows the previous one after a life of that length.
func (b Backoff) Next(previous, lived time.Duration) time.Duration {
	if previous == 0 || lived >= b.Healthy {
		return b.Min
	}
	return min(2*previous, b.Max)
}

// Supervisor runs children. Its fields are set before Run.
type Supervisor struct {
	Logs       string // Folder of the logs.
	StatusFile string // Rewritten on every change.
	Backoff    Backoff

	mutex    sync.Mutex
	statuses []*Status
	exits    map[int]chan syscall.WaitStatus
}

// gatePoll is short because the gates are in the way of a cluster's start.
const gatePoll = 50 * time.Millisecond

// Run keeps the children running until the context ends, then stops them, last first, each given that long to end.
func (s *Supervisor) Run(ctx context.Context, children []Child, grace time.Duration) {
	s.exits = map[int]chan syscall.WaitStatus{}
	for _, child := range children {
		s.statuses = append(s.statuses, &Status{Name: child.Name})
	}
	stopReaping := s.reap()
	defer stopReaping()

	stops := make([]func(), len(children))
	for i, child := range children {
		childContext, cancel := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.keep(childContext, child, s.statuses[i], grace)
		}()
		stops[i] = func() { cancel(); <-ended }
	}
	<-ctx.Done()
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
}

// keep is the life of one child.
func (s *Supervisor) keep(ctx context.Context, child Child, status *Status, grace time.Duration) {
	log := &lumberjack.Logger{Filename: filepath.Join(s.Logs, child.Name+".log"), MaxSize: 20, MaxBackups: 2}
	defer log.Close()
	var delay time.Duration
	for {
		if !s.passGate(ctx, child, status) {
			return
		}
		began := time.Now()
		pid, exited, err := s.start(child, log)
		if err != nil {
			s.update(func() { status.PID, status.LastExit = 0, err.Error() })
			fmt.Fprintf(log, "valerix: %v\n", err)
		} else {
			s.update(func() { status.PID, status.Since = pid, began })
			var result syscall.WaitStatus
			select {
			case result = <-exited:
			case <-ctx.Done():
				terminate(pid, exited, grace)
				s.update(func() { status.PID, status.LastExit = 0, "stopped" })
				return
			}
			s.update(func() { status.PID, status.LastExit = 0, describe(result) })
			fmt.Fprintf(log, "valerix: %s ended: %s\n", child.Name, describe(result))
		}
		delay = s.Backoff.Next(delay, time.Since(began))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		s.update(func() { status.Restarts++ })
	}
}

func (s *Supervisor) passGate(ctx context.Context, child Child, status *Status) bool {
	if child.Gate == nil {
		return ctx.Err() == nil
	}
	for {
		err := child.Gate(ctx)
		if ctx.Err() != nil {
			return false
		}
		waiting := ""
		if err != nil {
			waiting = err.Error()
		}
		if status.Waiting != waiting {
			s.update(func() { status.Waiting = waiting })
		}
		if err == nil {
			return true
		}
		select {
		case <-time.After(gatePoll):
		case <-ctx.Done():
			return false
		}
	}
}

func (s *Supervisor) start(child Child, log io.Writer) (int, <-chan syscall.WaitStatus, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return 0, nil, fmt.Errorf("failed to start %s: %w", child.Name, err)
	}
	defer writer.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		reader.Close()
		return 0, nil, fmt.Errorf("failed to start %s: %w", child.Name, err)
	}
	defer null.Close()

	// The lock is held from before the start until the child is known, or the reaper could collect a child that
	// ends at once before anyone asks for it.
	s.mutex.Lock()
	defer s.mutex.Unlock()
	process, err := os.StartProcess(child.Command[0], child.Command, &os.ProcAttr{
		Env:   append(os.Environ(), child.Env...),
		Files: []*os.File{null, writer, writer},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		reader.Close()
		return 0, nil, fmt.Errorf("failed to start %s: %w", child.Name, err)
	}
	exited := make(chan syscall.WaitStatus, 1)
	s.exits[process.Pid] = exited
	pid := process.Pid
	_ = process.Release() // The reaper waits for it.

	go func() {
		defer reader.Close()
		// This ends when the last holder of the pipe does: a shim may outlive its containerd, and its output
		// belongs to the same log.
		_, _ = io.Copy(log, reader)
	}()
	return pid, exited, nil
}

func terminate(pid int, exited <-chan syscall.WaitStatus, grace time.Duration) {
	_ = syscall.Kill(pid, syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(grace):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		<-exited
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("signal %d (%v)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

// update changes statuses under the lock and publishes them.
func (s *Supervisor) update(change func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	change()
	if s.StatusFile == "" {
		return
	}
	content, err := json.MarshalIndent(s.statuses, "", "  ")
	if err == nil {
		err = os.WriteFile(s.StatusFile+".new", append(content, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(s.StatusFile+".new", s.StatusFile)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "failed to publish the state of the children: %v\n", err)
	}
}
