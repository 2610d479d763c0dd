// Package process recognises a process again after its starter has gone.
//
// A process id alone is not enough: ids are reused, and a state folder survives a reboot. The id, the moment at
// which the kernel started the process and the id of the boot together name one process for ever.
package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Identity names one process of one boot.
type Identity struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // In clock ticks since the boot.
	Boot      string `json:"boot"`
}

// Of returns the identity of the running process with that id.
func Of(pid int) (Identity, error) {
	start, _, err := stat(pid)
	if err != nil {
		return Identity{}, err
	}
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, StartTime: start, Boot: boot}, nil
}

// Alive says whether exactly this process still runs. A zombie does not run: it only waits for its parent.
func (i Identity) Alive() bool {
	if i.PID <= 0 {
		return false
	}
	start, state, err := stat(i.PID)
	if err != nil || start != i.StartTime || state == 'Z' || state == 'X' {
		return false
	}
	boot, err := bootID()
	return err == nil && boot == i.Boot
}

// Signal sends a signal to this process and to no other. It is no error if the process has ended.
func (i Identity) Signal(signal syscall.Signal) error {
	// The descriptor is opened before the check, so the id cannot pass to another process in between.
	handle, err := os.FindProcess(i.PID)
	if err != nil || !i.Alive() {
		return nil
	}
	defer handle.Release()
	if err := handle.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("failed to signal process %d: %w", i.PID, err)
	}
	return nil
}

// WaitGone waits until the process has ended, at most for the given time, and says whether it has.
func (i Identity) WaitGone(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); i.Alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func stat(pid int) (startTime uint64, state byte, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(content))
}

// parseStat reads fields 3 (state) and 22 (start time). The name of the program, field 2, may itself hold spaces
// and parentheses, so the fields are counted from the last closing one.
func parseStat(content string) (startTime uint64, state byte, err error) {
	fields := strings.Fields(content[strings.LastIndexByte(content, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("unexpected process status %q", content)
	}
	startTime, err = strconv.ParseUint(fields[19], 10, 64)
	return startTime, fields[0][0], err
}

func bootID() (string, error) {
	content, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(content)), err
}
