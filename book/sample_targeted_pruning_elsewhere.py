# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The same questions on faces and photographs
#
# {doc}`The chapter <sample_targeted_pruning>` prunes a network for one image and asks whether the explanation then points better, on shapes that were drawn for the purpose.
# A shape is all that a network can use there; real images are not so tidy.
# Are the answers the same for other data?
#
# This page sets three runs of that chapter beside one another: on drawn shapes, on drawn faces, and on photographs.
# They take too long to be repeated with each build, and one of them needs data that do not come with the book.
# Their numbers are kept in small files, the *kept records*, and all that follows is drawn from these.
# A build refuses a kept record as soon as the chapter's claims or parameters are no longer those of the run.
#
# **What you need to know**: the measures of {doc}`the chapter <sample_targeted_pruning>`; the {doc}`glossary` has a line on each.

# %% tags=["hide-input"]
from IPython.display import HTML, display

from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import use_style
from effnotes.reporting.findings import finding, takeaways
from effnotes.reporting.kept import read_record
from effnotes.studies.traces import comparison, figures

# %% tags=["parameters"]
shapes: str = "data/records/sample_targeted_pruning/full.json"  # the kept record of the chapter's own data
faces: str = "data/records/sample_targeted_pruning/faces.json"  # that of the drawn faces
photographs: str = "data/records/sample_targeted_pruning/cifar10.json"  # that of the photographs

# %% tags=["hide-input"]
use_style()
records = {"shapes": read_record(shapes), "faces": read_record(faces), "photographs": read_record(photographs)}
means = {name: comparison.kept_means(record) for name, record in records.items()}

# %% [markdown]
# ## What was found
#
# {ref}`Below <elsewhere-verdicts>` are all claims, with their estimates and intervals.

# %% tags=["remove-input"]
takeaways(*comparison.across(records))

# %% [markdown]
# ## The data
#
# **Shapes** are those of the chapter.
#
# **Faces** are drawn like those of {doc}`the chapter on bias <pruning_bias>`, but each clearly has exactly one of ten attributes, which is its class: a smile, glasses, a hat, light hair and so on.
# Whether a face is round or oval, its place, colours and noise say nothing of the class.
# So it is known where the class shows: the face is drawn once more with the same noise and this one attribute turned into its opposite, and the pixels that change by clearly more than that noise are the region to be found.
# It is smaller than a shape, and in each class it lies in about the same place.
#
# **Photographs** are those of CIFAR-10 {cite:p}`krizhevsky2009cifar`; each seed draws its own training and test images from the published ones.
# Nobody has said which of their pixels show the class, and a network may use any of them, also the background.
# So photographs without a trojan have no region to be found, and are judged by insertion and deletion alone.
#
# Trojans and decoys are the same patches on all three, and so are network, recipe, poison rates and levels: nothing was tuned for one of them.
# On a face, a decoy can hide part of what shows the class; what it covers does not count as region.
# To save time, fewer images of the faces and photographs are explained, and fewer networks of the faces trained; that was settled before their runs.

# %% tags=["hide-input"]
comparison.data_table(records).pipe(page_table).format(precision=3, thousands="\u202f", na_rep="–").set_caption(
    "The runs, and what their networks learnt, means over networks: the share of test images whose class is right; the share of images"
    " taken for the target by the weakest trojan where it is meant to work, and by the strongest where it is not."
)

# %% [markdown]
# ## Does a trace point better, and is it still the network?
#
# {numref}`fig-elsewhere-frontier` is the chapter's main figure for images with a trojan, once for each data.

# %% mystnb={"figure": {"caption": "Pixel AUC of Saliency against agreement with the dense network, images with a trojan. Circles are the mild levels, squares the strong ones, the star is the dense network; small marks are seeds, large ones their means. The dotted line is chance.", "name": "fig-elsewhere-frontier"}, "image": {"alt": "Three scatter plots, for shapes, faces and photographs, with agreement across and pixel AUC upwards, one colour for each way to prune."}} tags=["hide-input"]
_ = figures.plot_frontiers(means)

# %% tags=["remove-input"]
finding(comparison.of_frontiers(records), figure="fig-elsewhere-frontier")

# %% [markdown]
# ## Which explanations gain?

# %% mystnb={"figure": {"caption": "What the image's own trace adds to the pixel AUC of each method at the strong levels, images with a trojan, with 95% intervals over seeds.", "name": "fig-elsewhere-gains"}, "image": {"alt": "A row for each method of attribution with a mark and its interval for each of the three data; a vertical line marks zero."}} tags=["hide-input"]
found = comparison.gains_beside(records, "trojan", "auc")
_ = comparison.plot_gains_beside(found)

# %% tags=["remove-input"]
finding(comparison.of_gains_beside(found, "pixel AUC"), figure="fig-elsewhere-gains")

# %% [markdown]
# ## On images without a trojan
#
# Insertion and deletion need no region: the dense network itself says how its answer comes with the pixels that a map ranks highest, and goes without them.

# %% tags=["hide-input"]
comparison.insertion_beside(records).pipe(page_table).format("{:+.3f}", subset=slice("insertion, shapes", None)).set_caption(
    "What the image's own trace adds to insertion (up is better) and deletion (down is better), by the dense network, at the strong"
    " levels; images without a trojan, means over seeds."
)

# %% tags=["remove-input"]
finding(comparison.of_gains_beside(comparison.gains_beside(records, "clean", "insertion"), "insertion"))

# %% [markdown]
# (elsewhere-verdicts)=
# ## The claims, on each data
#
# The same claims, margins and rule as in the chapter.
# The {doc}`scoreboard` counts the chapter's own data only.

# %% tags=["remove-input"]
verdicts = comparison.verdicts_table(records)
finding(comparison.of_verdicts(verdicts))

# %% tags=["hide-input"]
verdicts.assign(differ=verdicts["differ"].map({True: "yes", False: "no"})).pipe(page_table).set_caption(
    "How the claims came out in the three kept records: effect, 95% interval and verdict."
)

# %% [markdown]
# Why they may differ:
#
# - **What else there is to see.**
#   A shape stands on smooth noise; a face is full of parts that are the same in all classes, and a photograph of edges and textures that networks use for many classes.
#   The more of the dense map lies on those, the more there is for pruning to take away, and the more it can lose of what the network used.
# - **How sure the network is.**
#   On shapes and faces it is right nearly always; on photographs of this size, with a network as small, it is not.
#   An answer near the edge of another one is lost sooner when weights go, so agreement can fall for all ways to prune.
# - **How well a trojan keeps to its class.**
#   Networks that know their classes less well let a trojan that is meant for one class work on others, too; the table of the data says how often.
#   The images that are explained are those where a trojan is meant to work and does.
# - **How much of the network is needed.**
#   The levels are the same for all, but a network that needs few of its weights for its data can lose less to any pruning, also to pruning by magnitude.
# - **What varies between seeds.**
#   A seed draws new shapes and new faces; of the photographs it only draws which ones are used, so the intervals there say what another draw of the same photographs would bring.
#
# Where two data disagree, neither is the mistake of the other: a verdict is about a setting.
# So no page of this book rests on one of them, and what holds on one only is not to be expected on images of your own.
# The command to try it there is the same, with a folder of yours that is laid out like CIFAR-10.
#
# ## How to make it again
#
# `data/cifar10/CARD.md` says how the folder of photographs is laid out; put its place where a word in capitals stands.

# %% tags=["remove-input"]
for record in records.values():
    print("$ " + record.command.replace(" -p", " \\\n    -p").replace(" --profile", " \\\n    --profile"))

# %% [markdown]
# A run replaces the kept record, and the next build draws this page anew.
# The records that this page shows were made like this, in the order of the columns above:

# %% tags=["remove-input"]
display(*(HTML(record.provenance_html()) for record in records.values()))
