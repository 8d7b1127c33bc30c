"""Settings of nbgrader for the assignments; run `nbgrader` in this folder (see *In a classroom*)."""

c = get_config()  # noqa: F821 (nbgrader gives it)

c.CourseDirectory.course_id = "splines"
c.CourseDirectory.db_url = "sqlite:///gradebook.db?timeout=60"  # two graders at once wait for each other
c.ClearSolutions.code_stub = {
    "python": 'raise NotImplementedError("write this function, then run its checks")'
}
c.ClearSolutions.text_stub = "*Your answer.*"
c.Execute.timeout = 30  # seconds for one cell: an endless loop costs its own points, not the class's
c.Execute.interrupt_on_timeout = True
c.Execute.iopub_timeout = 30  # seconds that the last output of a cell may take to arrive
c.Execute.extra_arguments = ["--IPKernelApp.log_level=ERROR", "--HistoryManager.hist_file=:memory:"]
# zip_collect: ada_123_a1_cpa_map.ipynb or ada/a1_cpa_map.ipynb, alone or in an archive
c.FileNameCollectorPlugin.named_regexp = (
    r".*/extracted/(?:.*/)?(?P<student_id>[^/_]+)[_/].*?(?P<file_id>a\d(?:_[a-z]+)+)[^/]*\.ipynb$"
)
