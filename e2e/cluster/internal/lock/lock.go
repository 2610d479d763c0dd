// Package lock makes commands that change the same thing take turns, and lets one learn who holds the turn.
//
// A lock is the kernel's, not the file's existence: it ends with its holder, however that dies.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"valerix.io/cluster/internal/process"
)

// Lock is held until Release.
type Lock struct{ file *os.File }

// Holder is who holds a lock, and why.
type Holder struct {
	Purpose string           `json:"purpose"`
	Process process.Identity `json:"process"`
}

// ErrHeld is returned by Try for a lock that somebody else holds.
var ErrHeld = errors.New("the lock is held")

// Try takes the lock at once or fails with ErrHeld.
func Try(path, purpose string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("failed to make the folder of locks: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("failed to open the lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrHeld
		}
		return nil, fmt.Errorf("failed to lock %s: %w", path, err)
	}
	self, err := process.Of(os.Getpid())
	if err == nil {
		var content []byte
		content, err = json.Marshal(Holder{purpose, self})
		if err == nil {
			err = errors.Join(file.Truncate(0), writeAt(file, content))
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("failed to sign the lock %s: %w", path, err)
	}
	return &Lock{file}, nil
}

// Acquire waits for the lock.
func Acquire(ctx context.Context, path, purpose string) (*Lock, error) {
	for {
		lock, err := Try(path, purpose)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// HolderOf returns the last holder of a lock; whether it still lives is for the caller to ask.
func HolderOf(path string) (holder Holder, err error) {
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &holder)
	}
	return holder, err
}

// Release gives the lock to whoever waits for it.
func (l *Lock) Release() {
	_ = l.file.Truncate(0)
	_ = l.file.Close()
}

func writeAt(file *os.File, content []byte) error {
	_, err := file.WriteAt(content, 0)
	return err
}
