package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"golang.org/x/sync/errgroup"

	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/process"
)

// LoadImages imports image archives into every node of a running cluster and returns the names of the images.
func LoadImages(ctx context.Context, cluster layout.Cluster, archives []string) ([]string, error) {
	for _, archive := range archives {
		if _, err := os.Stat(archive); err != nil {
			return nil, fmt.Errorf("failed to load the image: %w", err)
		}
	}
	places, err := nodes(cluster)
	if err != nil {
		return nil, err
	}
	found := make([][]string, len(places)) // They are the same on every node that runs.
	group, together := errgroup.WithContext(ctx)
	for i, place := range places {
		running, err := nodeProcess(place)
		if err != nil {
			return nil, err
		}
		if !running.Alive() {
			continue
		}
		group.Go(func() error {
			for _, archive := range archives {
				of, err := importImage(together, running, archive)
				if err != nil {
					return fmt.Errorf("%s: %w", place.Name, err)
				}
				found[i] = append(found[i], of...)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, names := range found {
		if len(names) > 0 {
			return names, nil
		}
	}
	if len(archives) == 0 {
		return nil, nil
	}
	return nil, fmt.Errorf("cluster %s does not run; start it with `cluster up --name %s`", cluster.Name, cluster.Name)
}

// loadOnce imports those of the cached archives that this node has not had yet. An archive's name tells its content.
func loadOnce(ctx context.Context, place layout.Node, running process.Identity, archives []string) (loaded int, err error) {
	for _, archive := range archives {
		mark := filepath.Join(place.Dir(), "images", filepath.Base(archive))
		if _, err := os.Stat(mark); err == nil {
			continue
		}
		if _, err := importImage(ctx, running, archive); err != nil {
			return loaded, err
		}
		if err := writeFile(mark, nil); err != nil {
			return loaded, err
		}
		loaded++
	}
	return loaded, nil
}

// imported matches what ctr says of each image: "unpacking docker.io/library/x:1 (sha256:...)...done".
var imported = regexp.MustCompile(`(?m)^unpacking (\S+) \(sha256:`)

func importImage(ctx context.Context, running process.Identity, archive string) ([]string, error) {
	command := exec.CommandContext(ctx, "ctr", "--address", containerdSocket(running), "--namespace", "k8s.io",
		"images", "import", archive)
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("failed to import %s: %w: %s", archive, err, bytes.TrimSpace(output))
	}
	var names []string
	for _, match := range imported.FindAllSubmatch(output, -1) {
		names = append(names, string(match[1]))
	}
	if len(names) == 0 {
		return nil, errors.New(archive + " names no image; write the name into it, for example with " +
			"`buildah push IMAGE oci-archive:FILE:NAME:TAG`")
	}
	return names, nil
}

// containerdSocket is the node's socket as the host reaches it, through the view of the node's first process.
func containerdSocket(running process.Identity) string {
	return fmt.Sprintf("/proc/%d/root%s", running.PID, config.ContainerdSocket)
}
