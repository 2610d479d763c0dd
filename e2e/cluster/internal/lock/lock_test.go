package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOnlyOneHoldsAndOthersLearnWho(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks", "demo.lock")
	first, err := Try(path, "up")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(path, "down"); !errors.Is(err, ErrHeld) {
		t.Errorf("a second holder gets %v", err)
	}
	holder, err := HolderOf(path)
	if err != nil || holder.Purpose != "up" || holder.Process.PID != os.Getpid() || !holder.Process.Alive() {
		t.Errorf("the holder is %+v, %v", holder, err)
	}
	first.Release()
	second, err := Try(path, "down")
	if err != nil {
		t.Fatalf("a released lock is not free: %v", err)
	}
	second.Release()
}

func TestAcquireWaitsAndGivesUpWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path, "up")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, path, "down"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	time.AfterFunc(50*time.Millisecond, first.Release)
	second, err := Acquire(context.Background(), path, "down")
	if err != nil {
		t.Fatal(err)
	}
	second.Release()
}
