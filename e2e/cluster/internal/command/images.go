package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"valerix.io/cluster/internal/cluster"
	"valerix.io/cluster/internal/image"
	"valerix.io/cluster/internal/layout"
)

func imageFolder() (string, error) {
	cache, err := layout.Cache()
	return filepath.Join(cache, "images"), err
}

func loadImageCommand(at *where) *cobra.Command {
	return &cobra.Command{
		Use:   "load-image FILE...",
		Short: "Load image archives (oci-archive or docker-archive) into the cluster and print the images' names",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, archives []string) error {
			_, found, err := at.find()
			if err != nil {
				return err
			}
			names, err := cluster.LoadImages(command.Context(), found, archives)
			for _, name := range names {
				fmt.Println(name)
			}
			return err
		},
	}
}

func imageCommand() *cobra.Command {
	var rebuild bool
	var names []string
	for _, recipe := range image.Recipes {
		names = append(names, recipe.Name)
	}
	command := &cobra.Command{
		Use:       "image " + strings.Join(names, "|"),
		Short:     "Build an image from Debian's packages, unless the cache has it, and print the path of its archive",
		Args:      cobra.ExactArgs(1),
		ValidArgs: names,
		RunE: func(command *cobra.Command, arguments []string) error {
			recipe, err := image.Find(arguments[0])
			if err != nil {
				return err
			}
			folder, err := imageFolder()
			if err != nil {
				return err
			}
			tell := func(text string) { fmt.Fprintln(os.Stderr, text) }
			path, err := image.Cache{Dir: folder, Progress: tell}.Ensure(command.Context(), recipe, rebuild)
			if err != nil {
				return err
			}
			fmt.Println(path)
			return nil
		},
	}
	command.Flags().BoolVar(&rebuild, "rebuild", false, "build it anew, with the present versions of Debian's packages")
	return command
}
