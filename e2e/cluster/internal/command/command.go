// Package command is the command line. Each command reads its flags and calls what does the work.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"valerix.io/cluster/internal/cluster"
	"valerix.io/cluster/internal/layout"
)

// where are the flags by which a command finds its cluster.
type where struct{ state, name string }

func (w *where) find() (layout.StateDir, layout.Cluster, error) {
	state, err := layout.State(w.state)
	if err != nil {
		return "", layout.Cluster{}, err
	}
	found, err := state.Cluster(w.name)
	return state, found, err
}

// Execute runs the command line and returns the exit code. kubectl becomes the embedded kubectl.
func Execute(kubectl func(arguments []string) int) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := 0
	become := func(arguments []string) {
		stop() // kubectl ends by signals in its own way; `port-forward` would not end at all.
		code = kubectl(arguments)
	}
	root := newRoot(become, func(failed int) { code = failed })
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return code
}

func newRoot(kubectl func([]string), fail func(int)) *cobra.Command {
	at := &where{}
	root := &cobra.Command{
		Use:   "cluster",
		Short: "A real Kubernetes cluster on this host, without a container engine and without a registry",
		Long: "A real Kubernetes cluster on this host, without a container engine and without a registry.\n\n" +
			"Every component is in this binary; containerd, runc and the network plugins are Debian's packages.",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&at.name, "name", layout.DefaultName, "the cluster")
	root.PersistentFlags().StringVar(&at.state, "state", "",
		"folder of all clusters (default $VALERIX_STATE, else "+layout.DefaultState+")")
	root.AddCommand(
		upCommand(at), downCommand(at), statusCommand(at, fail), kubeconfigCommand(at), kubectlCommand(at, kubectl),
		loadImageCommand(at), imageCommand(), preflightCommand(fail), nodeCommand(), localVolumesCommand(),
		networkPoliciesCommand(),
	)
	return root
}

func upCommand(at *where) *cobra.Command {
	options := cluster.UpOptions{Out: os.Stderr}
	command := &cobra.Command{
		Use:   "up",
		Short: "Bring the cluster up, or the rest of it if it is half up",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if options.State, options.Cluster, err = at.find(); err != nil {
				return err
			}
			if options.Cache, err = imageFolder(); err != nil {
				return err
			}
			return cluster.Up(command.Context(), options)
		},
	}
	command.Flags().IntVar(&options.Index, "index", 0, "index of the addresses, 1 to 67 (default: the lowest that is free)")
	command.Flags().IntVar(&options.Nodes, "nodes", 0,
		"1 to 3 nodes, each in a zone of its own (default: as many as the cluster has, 1 for a new one); more than it has are added")
	command.Flags().IntVar(&options.FakeNodes, "fake-nodes", 0,
		"further nodes, up to 1000, whose pods are kwok's and run nothing (default: as many as the cluster has, none for a new one)")
	command.Flags().StringVar(&options.Kwok, "kwok", "", "folder of the program kwok and its stages.yaml, for fake nodes")
	command.Flags().StringSliceVar(&options.Images, "with-images", nil, "further images to build and load, for example postgres,redis")
	command.Flags().DurationVar(&options.Timeout, "timeout", 5*time.Minute, "how long to wait for the cluster to be ready")
	return command
}

func downCommand(at *where) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the cluster and remove everything of it from this host",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, found, err := at.find()
			if err != nil {
				return err
			}
			return cluster.Down(command.Context(), found, os.Stderr)
		},
	}
}

func statusCommand(at *where, fail func(int)) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Tell how the cluster is, and where its files are; the exit code is 0 if it is ready and 3 if not",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, found, err := at.find()
			if err != nil {
				return err
			}
			status, err := cluster.Look(command.Context(), found)
			if err != nil {
				return err
			}
			if status.State != cluster.Ready {
				fail(3)
			}
			if asJSON {
				return status.WriteJSON(os.Stdout)
			}
			return status.WriteText(os.Stdout, time.Now())
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return command
}

func kubeconfigCommand(at *where) *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the cluster's kubeconfig",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, found, err := at.find()
			if err != nil {
				return err
			}
			if _, err := os.Stat(found.Kubeconfig()); err != nil {
				return noKubeconfig(found)
			}
			fmt.Println(found.Kubeconfig())
			return nil
		},
	}
}

func kubectlCommand(at *where, kubectl func([]string)) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [--name NAME] ARGUMENT...",
		Short: "Run the embedded kubectl on the cluster, never on the current context",
		// Everything but a leading --name or --state is kubectl's.
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, arguments []string) error {
			rest, err := ownFlags(at, arguments)
			if err != nil {
				return err
			}
			_, found, err := at.find()
			if err != nil {
				return err
			}
			if _, err := os.Stat(found.Kubeconfig()); err != nil && !choosesCluster(rest) {
				// kubectl would fall back to some server on localhost.
				return noKubeconfig(found)
			}
			if err := os.Setenv("KUBECONFIG", found.Kubeconfig()); err != nil {
				return err
			}
			kubectl(rest)
			return nil
		},
	}
}

func noKubeconfig(absent layout.Cluster) error {
	return fmt.Errorf("cluster %s has no kubeconfig; make it with `cluster up --name %s`", absent.Name, absent.Name)
}

// choosesCluster says whether the arguments of kubectl name a cluster themselves, or need none.
func choosesCluster(arguments []string) bool {
	return slices.ContainsFunc(arguments, func(argument string) bool {
		name, _, _ := strings.Cut(argument, "=")
		return slices.Contains([]string{"--kubeconfig", "--server", "-s", "--client", "--help", "-h", "kustomize"}, name)
	})
}

// ownFlags takes --name and --state off the front.
func ownFlags(at *where, arguments []string) ([]string, error) {
	for len(arguments) > 0 {
		name, value, joined := strings.Cut(arguments[0], "=")
		target := map[string]*string{"--name": &at.name, "--state": &at.state}[name]
		if target == nil {
			break
		}
		arguments = arguments[1:]
		if !joined {
			if len(arguments) == 0 {
				return nil, errors.New(name + " needs a value")
			}
			value, arguments = arguments[0], arguments[1:]
		}
		*target = value
	}
	return arguments, nil
}
