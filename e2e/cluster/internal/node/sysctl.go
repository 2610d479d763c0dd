package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// shielded are the kernel settings that the kubelet changes for the whole host, because they have no namespace.
var shielded = []string{
	"vm/overcommit_memory",
	"vm/panic_on_oom",
	"kernel/panic",
	"kernel/panic_on_oops",
	"kernel/keys/root_maxkeys",
	"kernel/keys/root_maxbytes",
}

// own are settings of the node's network namespace.
var own = map[string]string{
	"net/ipv4/ip_forward":                "1",
	"net/bridge/bridge-nf-call-iptables": "1", // Or kube-proxy would not see pods of one node calling each other.
}

const sysctlDir = "/proc/sys"

// shieldSysctls covers each setting with a file that holds its present value. The kubelet finds what it expects to
// find, changes the file, and the host keeps its settings: there is nothing to restore, not even after a crash.
func shieldSysctls() error {
	for _, name := range shielded {
		setting := filepath.Join(sysctlDir, name)
		content, err := os.ReadFile(setting)
		if errors.Is(err, fs.ErrNotExist) {
			continue // A kernel without it.
		}
		if err != nil {
			return fmt.Errorf("failed to read the kernel setting %s: %w", name, err)
		}
		cover := filepath.Join("/run/sysctl", strings.ReplaceAll(name, "/", "."))
		if err := os.MkdirAll(filepath.Dir(cover), 0o755); err != nil {
			return fmt.Errorf("failed to shield the kernel setting %s: %w", name, err)
		}
		if err := os.WriteFile(cover, content, 0o644); err != nil {
			return fmt.Errorf("failed to shield the kernel setting %s: %w", name, err)
		}
		if err := mount(cover, setting, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func setSysctls() error {
	for name, value := range own {
		if err := os.WriteFile(filepath.Join(sysctlDir, name), []byte(value), 0); err != nil {
			return fmt.Errorf("failed to set %s to %s: %w", name, value, err)
		}
	}
	return nil
}
