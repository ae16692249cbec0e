class OnnxCompiler: name='x';package='x'
class InductorCompiler: name='y';package='y'
