package process

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T) (*exec.Cmd, Identity) {
	t.Helper()
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	identity, err := Of(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return command, identity
}

func TestARunningProcessIsRecognised(t *testing.T) {
	if _, identity := start(t); !identity.Alive() {
		t.Error("the process runs but is not recognised")
	}
}

func TestAnotherProcessWithTheSameIDIsNotSignalled(t *testing.T) {
	_, identity := start(t)
	for name, stranger := range map[string]Identity{
		"earlier process": {PID: identity.PID, StartTime: identity.StartTime - 1, Boot: identity.Boot},
		"earlier boot":    {PID: identity.PID, StartTime: identity.StartTime, Boot: "another"},
	} {
		if stranger.Alive() {
			t.Errorf("%s counts as alive", name)
		}
		if err := stranger.Signal(syscall.SIGKILL); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if !identity.Alive() {
		t.Error("a process that merely has the same id was killed")
	}
}

func TestAKilledProcessIsGoneEvenAsAZombie(t *testing.T) {
	_, identity := start(t)
	if err := identity.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Nobody has waited for it, so the kernel keeps it as a zombie.
	if !identity.WaitGone(5 * time.Second) {
		t.Error("the killed process still counts as alive")
	}
}

func TestNoProcessIsNotAlive(t *testing.T) {
	if (Identity{}).Alive() {
		t.Error("the zero identity is alive")
	}
	if _, err := Of(1 << 30); !os.IsNotExist(err) {
		t.Errorf("an impossible id gives %v", err)
	}
}

func TestParseStatWithANameThatLooksLikeFields(t *testing.T) {
	start, state, err := parseStat("42 (a) S (b c) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n")
	if err != nil || start != 777 || state != 'Z' {
		t.Errorf("got %d, %c, %v", start, state, err)
	}
}
