/* An experiment written back as YAML, in one form: keys in a fixed order, defaults left out, one spelling for each value. Two files
 * that mean the same give the same text, and reading the text gives the same experiment. */
#ifndef LAB_LAUNCHER_EXPERIMENT_TEXT_H
#define LAB_LAUNCHER_EXPERIMENT_TEXT_H

#include "launcher/experiment.h"

/* Fills in `text` and `hash`. -ENOMEM. */
int lab_experiment_normalise(struct lab_experiment *experiment);

#endif
