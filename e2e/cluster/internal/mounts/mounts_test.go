package mounts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseFindsWhatIsBelowAndNothingBeside(t *testing.T) {
	below, err := parse(strings.NewReader(`1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /state/demo rw - tmpfs tmpfs rw
3 1 0:6 / /state/demo/a\040b rw - tmpfs tmpfs rw
4 1 0:7 / /state/demo-2 rw - tmpfs tmpfs rw
`), "/state/demo")
	if want := []string{"/state/demo", "/state/demo/a b"}; err != nil || !slices.Equal(below, want) {
		t.Errorf("got %q, %v; want %q", below, err, want)
	}
}

func TestRemoveAllRemovesAPlainFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	if err := os.MkdirAll(filepath.Join(dir, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestRemoveAllRefusesAMountPoint(t *testing.T) {
	if err := RemoveAll("/proc"); err == nil || !strings.Contains(err.Error(), "/proc") {
		t.Errorf("got %v", err)
	}
}
