// Package mounts answers the question to ask before a folder is removed with everything in it: is any part of it
// something else, mounted there?
package mounts

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// Below lists what is mounted at or below a folder, as this process sees it.
func Below(dir string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("failed to list the mounts: %w", err)
	}
	defer file.Close()
	return parse(file, dir)
}

// RemoveAll removes a folder, unless something is mounted below it, whose files would go too.
func RemoveAll(dir string) error {
	below, err := Below(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("something is mounted inside %s and would lose its files: %s; unmount it and try again",
			dir, strings.Join(below, ", "))
	}
	return os.RemoveAll(dir)
}

// parse reads lines such as
//
//	36 32 0:33 / /mnt/with\040space rw,relatime shared:16 - ext4 /dev/sda1 rw
func parse(mountinfo io.Reader, dir string) (below []string, err error) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point+"/", dir+"/") {
			below = append(below, point)
		}
	}
	return below, lines.Err()
}
